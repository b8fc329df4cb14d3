"""Who gets in, and who doesn't."""

from __future__ import annotations

import asyncio
import logging

import httpx
import pytest

from bizcode import BizError
from bizcode.serve import Keys, app, background

TOKEN = "a token that is long enough"
ROWS = "/api/v1/track"


def inside(made, client=("127.0.0.1", 5000), base="http://127.0.0.1:8484"):
    transport = httpx.ASGITransport(app=made, client=client)
    return httpx.AsyncClient(transport=transport, base_url=base)


def get(made, path=ROWS, headers=None, method="GET", json=None, **more):
    async def run():
        async with inside(made, **more) as client:
            return await client.request(method, path, headers=headers or {}, json=json)

    return asyncio.run(run())


def test_without_a_token_only_this_machine_gets_in(shop):
    made = app(shop)
    assert get(made).status_code == 200
    assert get(made, base="http://localhost:8484").status_code == 200
    assert get(made, base="http://[::1]:8484", client=("::1", 5)).status_code == 200
    assert get(made, client=("10.0.0.7", 5)).status_code == 401
    # A name that was rebound to 127.0.0.1, and a proxy on this machine.
    for name in (
        "evil.example",
        "127.0.0.1.evil.example",
        "127.evil.example",
        "localhost.evil.example",
        "[::2]",
    ):
        assert get(made, base=f"http://{name}:8484").status_code == 401
    for name in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
        assert get(made, headers={name: "10.0.0.7"}).status_code == 401


def test_with_a_token_nobody_gets_in_without(shop):
    made = app(shop, token=TOKEN)
    assert get(made).status_code == 401
    assert get(made, headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert get(made, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert get(made, headers={"authorization": "Bearer é".encode()}).status_code == 401
    with pytest.raises(BizError):
        app(shop, token="short")


def test_a_write_key_only_writes_and_a_read_token_only_reads(shop):
    made, keys = app(shop, token=TOKEN), Keys(shop.store)
    write, read, admin = (keys.create(scope) for scope in ("write", "read", "admin"))

    def by(key):
        return {"authorization": f"Bearer {key}"}

    events = {"events": [{"event": "A"}]}
    discard = "/api/v1/dead-letters/discard"
    assert get(made, headers=by(write)).status_code == 403
    assert get(made, headers=by(read)).status_code == 200
    assert get(made, headers=by(read), method="POST", json=events).status_code == 403
    assert get(made, headers=by(write), method="POST", json=events).status_code == 200
    assert get(made, discard, headers=by(read), method="POST", json={"id": "x"}).status_code == 403
    assert get(made, discard, headers=by(admin), method="POST", json={"id": "x"}).status_code == 404
    keys.revoke(read)
    assert get(made, headers=by(read)).status_code == 401
    made.close()


def test_a_tenants_token_reads_that_tenant(shop):
    shop.track.Own(n=1)
    made = app(shop)
    token = Keys(shop.store).create("read", "eu", tenant="eu")
    assert get(made).json()["result"] == ["Own"]
    assert get(made, headers={"authorization": f"Bearer {token}"}).json()["result"] == []
    made.close()


def test_other_sites_are_refused(shop):
    made = app(shop)
    body = {"steps": ["A"]}
    funnel = "/api/v1/funnel"

    def post(headers):
        return get(made, funnel, method="POST", json=body, headers=headers).status_code

    assert post({}) == 200
    assert post({"origin": "http://127.0.0.1:8484", "sec-fetch-site": "same-origin"}) == 200
    assert post({"origin": "https://evil.example"}) == 403
    assert post({"origin": "http://127.0.0.1:9999"}) == 403
    assert post({"origin": "null"}) == 403
    assert post({"sec-fetch-site": "cross-site"}) == 403
    assert post({"content-type": "text/plain"}) == 415
    assert get(made, headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert get(made, headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_headers_close_what_browsers_would_leave_open(shop):
    answer = get(app(shop))
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"
    assert "access-control-allow-origin" not in answer.headers


def test_the_theme_of_the_cookie_is_one_of_two(shop):
    made = app(shop)
    assert (
        '<html lang="en" data-theme="dark">'
        in get(made, "/", headers={"cookie": "a=1; bizcode_theme=dark"}).text
    )
    for cookie in (
        "bizcode_theme=x",
        'bizcode_theme="><script>',
        "bizcode_session=...; bizcode_session",
        "\x00",
    ):
        answer = get(made, "/", headers={"cookie": cookie.replace("\x00", "%00")})
        assert '<html lang="en">' in answer.text


def test_guessing_tokens_is_slowed_down(shop):
    made = app(shop, token=TOKEN)
    found = {get(made, headers={"authorization": f"Bearer guess-{n}"}).status_code for n in range(30)}
    assert found == {401, 429}


def test_no_secret_is_logged(shop, caplog):
    caplog.set_level(logging.DEBUG)
    made = app(shop, token=TOKEN)
    key = Keys(shop.store).create("write")
    bad = {"api_key": key, "batch": [{"event": "A", "distinct_id": "u"}, {"event": "B", "email": "a@b.c"}]}
    get(made, "/batch", method="POST", json=bad)
    get(made, headers={"authorization": f"Bearer {TOKEN}"})
    get(made, f"{ROWS}?token={TOKEN}", headers={"authorization": "Bearer nobody's"})
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("bizcode")]
    assert ours
    for secret in (TOKEN, key, "nobody's", "a@b.c"):
        assert not any(secret in message for message in ours)
    made.close()


def test_a_failure_inside_tells_nothing(shop, monkeypatch):
    def fail(*_):
        raise RuntimeError("the password is 1234")

    monkeypatch.setattr(type(shop.track), "names", fail)
    answer = get(app(shop))
    assert answer.status_code == 500
    assert "1234" not in answer.text


def test_mounted_below_a_path_of_another_application(shop):
    from starlette.applications import Starlette
    from starlette.routing import Mount

    key = Keys(shop.store).create("write")
    made = app(shop)
    outer = Starlette(routes=[Mount("/acme/stats", app=made)])
    body = {"api_key": key, "event": "A", "distinct_id": "u"}
    assert get(outer, "/acme/stats/capture/", method="POST", json=body).status_code == 200
    assert get(outer, f"/acme/stats{ROWS}").json()["result"] == ["A"]
    assert get(outer, "/acme/stats/api/openapi.json").json()["servers"] == [{"url": "/acme/stats/api/v1"}]
    page = get(outer, "/acme/stats/funnels").text
    assert 'href="/acme/stats/cohorts"' in page
    assert (
        get(outer, "/acme/stats" + page.partition('src="/acme/stats')[2].partition('"')[0]).status_code == 200
    )
    made.close()


def test_a_closed_business_is_a_503(tmp_path):
    from bizcode import Business

    biz = Business(tmp_path / "gone", worker=False)
    with background(biz) as url:
        biz.close()
        assert httpx.get(f"{url}{ROWS}").status_code == 503
