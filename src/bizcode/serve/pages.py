"""The dashboard's pages: a shell that is there at once, which the script fills from the JSON API."""

from __future__ import annotations

import gzip
import hashlib
import re
from functools import cache
from html import escape
from importlib import resources
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from . import body
from .api.router import HEADERS, answer
from .gate import COOKIE, SESSION, Principal, client_of, same_origin
from .refused import Refused

if TYPE_CHECKING:
    from ..business import Business
    from .application import App

__all__ = ["PAGES", "Pages", "static", "title"]

PAGES = {
    "": "Overview",
    "events": "Events",
    "funnels": "Funnels",
    "cohorts": "Cohorts",
    "metrics": "Metrics",
    "experiments": "Experiments",
    "goals": "Goals",
    "views": "Views",
    "streams": "Streams",
    "entities": "Entities",
    "dead-letters": "Dead letters",
    "connect": "Connect",
}
_APART = ("events", "experiments", "streams", "connect")
"""What begins a group of the menu: asking, deciding, operating, setting up."""
_TYPES = {"js": "text/javascript", "css": "text/css", "svg": "image/svg+xml", "txt": "text/plain"}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)


class File(NamedTuple):
    """One file of the dashboard, as it is sent."""

    content: bytes
    packed: bytes
    type: str


@cache
def static() -> tuple[str, dict[str, File]]:
    """(a version of all of them, the files by name): read once."""
    found, digest = {}, hashlib.sha256()
    folder = resources.files("bizcode.serve").joinpath("static")
    for one in sorted(folder.iterdir(), key=lambda one: one.name):
        kind = _TYPES.get(one.name.rpartition(".")[2])
        if kind is None or not one.is_file():
            continue
        content = one.read_bytes()
        if one.name == "app.css":  # one sheet: the first paint waits for each
            content = folder.joinpath("uPlot.min.css").read_bytes() + content
        digest.update(content)
        found[one.name] = File(content, gzip.compress(content, 9), f"{kind}; charset=utf-8")
    return digest.hexdigest()[:12], found


class Pages:
    """Answers everything that is neither an SDK's path nor the API."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any, path: str) -> None:
        try:
            status, content, headers = await self._answer(scope, receive, path.strip("/"))
        except Refused as error:
            if scope["method"] not in ("GET", "HEAD"):
                await answer(send, error.status, error.body(), error.headers)
                return
            if error.status == 401:
                status, content, headers = self._sign_in(scope, "")
            else:
                text = f"<main class='sign'><h1>{error.status}</h1><p>{escape(error.message)}</p></main>"
                status, content, headers = _html(scope, error.status, "Refused", text)
                headers += [(k.encode(), v.encode()) for k, v in error.headers.items()]
        headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else content})

    async def _answer(self, scope: dict[str, Any], receive: Any, path: str) -> tuple[int, bytes, list[Any]]:
        headers = body.headers_of(scope)
        if path in ("login", "logout") and scope["method"] == "POST":
            same_origin(scope, headers)
            return await (self._login if path == "login" else self._logout)(scope, receive, headers)
        if scope["method"] not in ("GET", "HEAD"):
            if path not in PAGES:
                raise Refused(
                    404, "there is nothing here: /capture, /batch, /v1/track and /api/v1 take events"
                )
            raise Refused(405, f"this page takes GET, not {scope['method']}", {"allow": "GET, HEAD"})
        if path.startswith("static/"):
            return _file(path, headers)
        if path == "login":
            return self._sign_in(scope, "", 200)
        if path not in PAGES:
            raise Refused(404, "there is no such page")
        who = self._app.gate.principal(scope, headers)
        return self._page(scope, path, who, await self._app.opened(who.tenant))

    def _page(
        self, scope: dict[str, Any], path: str, who: Principal, biz: Business
    ) -> tuple[int, bytes, list[Any]]:
        base = escape(scope.get("root_path", ""))
        name = escape(title(biz))
        links = "".join(
            f'<li{" class=apart" if page in _APART else ""}><a href="{base}/{page}"{" aria-current=page" if page == path else ""}>{title}</a></li>'
            for page, title in PAGES.items()
        )
        leave = f'<form method="post" action="{base}/logout"><button class="plain">Sign out</button></form>'
        text = (
            f'<a class="skip" href="#main">Skip to the page</a>'
            f'<div class="side"><div class="bar-top"><a class="brand" href="{base}/">'
            f'<img src="{_url(base, "icon.svg")}" alt=""><span>{name}</span></a>'
            f'<button class="menu" type="button" aria-expanded="false" aria-controls="pages">Menu</button></div>'
            f'<nav id="pages" aria-label="Pages"><ul>{links}</ul></nav>'
            f'<div class="foot"><button class="plain" id="theme" type="button">Theme</button>'
            f"{leave if who.via == 'session' else ''}<span>{escape(biz.timezone)}</span></div></div>"
            f'<main id="main" tabindex="-1"><div class="top"><h1>{PAGES[path]}</h1>'
            f'<div class="form" id="tools"></div></div><div id="page" class="stack" aria-busy="true"></div>'
            f"<noscript>The dashboard needs JavaScript; the JSON API doesn't.</noscript></main>"
            f'<div id="said" class="unseen" role="status" aria-live="polite"></div>'
        )
        data = f'data-base="{base}" data-page="{path}" data-scope="{who.scope}" data-zone="{escape(biz.timezone)}"'
        return _html(scope, 200, f"{PAGES[path]} · {name}", text, data)

    # sessions

    def _sign_in(self, scope: dict[str, Any], said: str, status: int = 401) -> tuple[int, bytes, list[Any]]:
        base = escape(scope.get("root_path", ""))
        notice = f'<p class="notice bad" role="alert">{escape(said)}</p>' if said else ""
        text = (
            f'<main class="sign"><div class="card"><h1>Sign in</h1><form method="post" action="{base}/login">'
            f'{notice}<label class="field">Token<input type="password" name="token" required autofocus '
            f'autocomplete="current-password"></label><button class="main">Sign in</button></form></div></main>'
        )
        return _html(scope, status, "Sign in", text)

    async def _login(
        self, scope: dict[str, Any], receive: Any, headers: dict[str, str]
    ) -> tuple[int, bytes, list[Any]]:
        raw = await body.read(receive, headers, 10_000, client_of(scope))
        token = parse_qs(raw.decode("latin-1"), max_num_fields=10).get("token", [""])[0]
        try:
            session = self._app.gate.sign_in(token, scope)
        except Refused as error:
            return self._sign_in(scope, error.message, error.status)
        return _moved(scope, f"{COOKIE}={session}; Max-Age={SESSION}")

    async def _logout(self, scope: dict[str, Any], *_: Any) -> tuple[int, bytes, list[Any]]:
        return _moved(scope, f"{COOKIE}=; Max-Age=0")


def title(biz: Business) -> str:
    """What the business is called: its tenant, else the last part of where it is kept, which has no password."""
    root = biz.store.root
    kept = urlsplit(root).path if isinstance(root, str) else root.name
    if not isinstance(root, str) and kept.startswith(
        "."
    ):  # ./.bizcode is the business of the directory it lies in
        kept = root.absolute().parent.name
    return biz.store.tenant or ("" if biz.store.temporary else kept.rpartition("/")[2]) or "bizcode"


def _moved(scope: dict[str, Any], cookie: str) -> tuple[int, bytes, list[Any]]:
    base = scope.get("root_path", "") or "/"
    outside = body.headers_of(scope).get("x-forwarded-proto", scope.get("scheme"))
    secure = "; Secure" if outside == "https" else ""
    kept = f"{cookie}; Path={base}; HttpOnly; SameSite=Strict{secure}"
    home = scope.get("root_path", "") + "/"
    return 303, b"", [*HEADERS, (b"location", home.encode()), (b"set-cookie", kept.encode())]


def _file(path: str, headers: dict[str, str]) -> tuple[int, bytes, list[Any]]:
    version, files = static()
    _, _, rest = path.partition("/")
    asked, _, name = rest.partition("/")
    file = files.get(name)
    if file is None:
        raise Refused(404, "there is no such file")
    cache = b"public, max-age=31536000, immutable" if asked == version else b"no-cache"
    found = [(b"content-type", file.type.encode()), (b"cache-control", cache), (b"vary", b"accept-encoding")]
    found.append((b"x-content-type-options", b"nosniff"))
    if "gzip" in headers.get("accept-encoding", "") and len(file.packed) < len(file.content):
        return 200, file.packed, [*found, (b"content-encoding", b"gzip")]
    return 200, file.content, found


def _url(base: str, name: str) -> str:
    return f"{base}/static/{static()[0]}/{name}"


def _theme(scope: dict[str, Any]) -> str:
    """The theme that was chosen, from its cookie: known before the first paint, so nothing flashes."""
    kept = re.search(r"(?:^|; )bizcode_theme=(light|dark)(?:;|$)", body.headers_of(scope).get("cookie", ""))
    return f' data-theme="{kept[1]}"' if kept else ""


def _html(
    scope: dict[str, Any], status: int, title: str, text: str, data: str = ""
) -> tuple[int, bytes, list[Any]]:
    base = escape(scope.get("root_path", ""))
    page = (
        f'<!doctype html><html lang="en"{_theme(scope)}><head><meta charset="utf-8"><title>{title}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<link rel="icon" href="{_url(base, "icon.svg")}"><link rel="stylesheet" href="{_url(base, "app.css")}">'
        f'<script defer src="{_url(base, "uPlot.iife.min.js")}"></script>'
        f'<script type="module" src="{_url(base, "app.js")}"></script></head><body {data}>{text}</body></html>'
    )
    headers = [*HEADERS, (b"content-type", b"text/html; charset=utf-8")]
    return status, page.encode(), [*headers, (b"content-security-policy", _POLICY.encode())]
