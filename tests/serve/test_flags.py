"""Experiments as PostHog's feature flags, asked for by its own SDK."""

from __future__ import annotations

import warnings

import httpx
import pytest
from posthog import Posthog

from bizcode import Business, this
from bizcode.serve import Keys, background


@pytest.fixture
def shop(tmp_path):
    """With the real clock, as the SDKs have it."""
    with Business(tmp_path / "shop", worker=False) as biz:
        yield biz


@pytest.fixture
def pricing(shop):
    return shop.experiment.define(
        "pricing", variants=["control", "value", "usage"], goal=shop.track.Buy.unique(), autostart=True
    )


@pytest.fixture
def client(url, key):
    warnings.simplefilter("ignore", DeprecationWarning)
    made = Posthog(key, host=url, flush_interval=0.05, max_retries=0)
    yield made
    made.shutdown()


def asked(http, key, user, **more):
    answer = http.post("/flags/?v=2", json={"api_key": key, "distinct_id": user, **more})
    assert answer.status_code == 200, answer.text
    return {name: flag["variant"] for name, flag in answer.json()["flags"].items()}


def exposures(shop, name="pricing"):
    found = shop.experiment(name).results().run()
    return {variant: one.users for variant, one in found.variants.items() if one.users}


def test_a_flag_is_the_librarys_own_variant(client, shop, pricing):
    users = [f"u{n}" for n in range(20)]
    shown = [client.get_feature_flag("pricing", user) for user in users]
    assert shown == [pricing.assign(user).run() for user in users]
    assert len(set(shown)) == 3
    assert client.get_all_flags("u1") == {"pricing": shown[1]}
    assert client.evaluate_flags("u1").get_flag("pricing") == shown[1]
    assert client.feature_enabled("nothing of that name", "u1") in (False, None)


def test_who_was_shown_a_variant_is_exposed_and_counts(client, shop, pricing):
    variant = client.get_feature_flag("pricing", "u1")
    client.capture("Buy", distinct_id="u1")
    client.flush()
    called, bought = shop.track.any.events().oldest_first().run()
    assert (called.type, called.experiments) == ("$feature_flag_called", {"pricing": variant})
    assert bought.type == "Buy"
    # What came in one batch with the exposure, a moment after it, came after the exposure.
    assert exposures(shop) == {variant: 1}
    assert pricing.results().run().variants[variant].conversions == 1


def test_asking_for_flags_exposes_nobody(client, http, key, shop, pricing):
    client.get_all_flags("u1")
    asked(http, key, "u2")
    client.flush()
    assert exposures(shop) == {}


def test_only_a_variant_of_a_known_experiment_is_an_exposure(http, key, shop, pricing):
    for flag, response in (
        ("pricing", "free"), ("pricing", False), ("pricing", None), ("pricing", ["value"]), ("other", "value"),
        (["pricing"], "value"), (None, "value"),
    ):  # fmt: skip
        properties = {"$feature_flag": flag, "$feature_flag_response": response}
        event = {
            "api_key": key,
            "event": "$feature_flag_called",
            "distinct_id": "u",
            "properties": properties,
        }
        assert http.post("/e", json=event).status_code == 200
    assert exposures(shop) == {}
    assert shop.track["$feature_flag_called"].count().run() == 7


def test_the_audience_sees_the_persons_properties(client, shop):
    shop.experiment.define("pro", variants=["a", "b"], audience=this.plan == "pro", autostart=True)
    assert client.get_feature_flag("pro", "u1", person_properties={"plan": "free"}) is False
    assert client.get_feature_flag("pro", "u2") is False
    assert client.get_feature_flag("pro", "u3", person_properties={"plan": "pro"}) in ("a", "b")
    client.set(distinct_id="u4", properties={"plan": "pro"})
    client.flush()
    assert client.get_feature_flag("pro", "u4") in ("a", "b")


def test_an_experiment_that_can_not_be_asked_leaves_the_others(key, shop, pricing):
    shop.experiment.define("by age", variants=["a", "b"], audience=lambda u: u.age > 18, autostart=True)
    # Another process did not define it, so it lacks the function.
    with Business(shop.store.root, worker=False) as other, background(other) as url:
        answer = httpx.post(f"{url}/flags/?v=2", json={"api_key": key, "distinct_id": "u1"}).json()
    assert list(answer["flags"]) == ["pricing"]
    assert answer["errorsWhileComputingFlags"] is True


def test_flags_follow_the_experiments_life(http, key, shop, pricing):
    shop.experiment.define("draft", variants=["a", "b"])
    variant = asked(http, key, "known")["pricing"]
    pricing.assign("known").run()
    pricing.pause()
    assert asked(http, key, "known") == {"pricing": variant}
    assert asked(http, key, "new") == {"pricing": None}
    pricing.start().graduate("usage")
    assert asked(http, key, "known") == asked(http, key, "new") == {"pricing": "usage"}
    assert exposures(shop) == {variant: 1}
    shop.experiment("draft").start().stop()
    assert "draft" not in asked(http, key, "new")


def others(pricing, than, count):
    """Ids that would be given another variant than that user."""
    mine = pricing._door.book.entry("pricing").assignment.variant
    return [id for id in (f"id-{n}" for n in range(100)) if mine(id) != mine(than)][:count]


def test_a_person_keeps_her_variant_when_she_signs_in(http, key, shop, pricing):
    anonymous, again = others(pricing, "u1", 2)
    before = asked(http, key, anonymous)["pricing"]

    def send(event, user, **properties):
        body = {"api_key": key, "event": event, "distinct_id": user, "properties": properties}
        assert http.post("/e", json=body).status_code == 200

    # The SDK asks for the new id before its batch with the exposure and the $identify is sent, twice.
    assert asked(http, key, "u1", **{"$anon_distinct_id": anonymous}) == {"pricing": before}
    assert asked(http, key, "u1") == {"pricing": before}
    send("$feature_flag_called", anonymous, **{"$feature_flag": "pricing", "$feature_flag_response": before})
    send("$identify", "u1", **{"$anon_distinct_id": anonymous})
    send("$feature_flag_called", "u1", **{"$feature_flag": "pricing", "$feature_flag_response": before})
    assert exposures(shop) == {before: 1}
    # On another device she has another anonymous id; what she has seen decides.
    assert asked(http, key, "u1", **{"$anon_distinct_id": again}) == {"pricing": before}


def test_merged_ids_are_one_person(http, key, shop, pricing):
    (anonymous,) = others(pricing, "u1", 1)
    variant = pricing.assign(anonymous).run()
    shop.identify(anonymous, "u1")
    assert asked(http, key, "u1") == {"pricing": variant}


def test_the_forms_of_an_answer(http, key, shop, pricing):
    body = {"api_key": key, "distinct_id": "u1"}
    variant = pricing.assign("u1").run()
    for path in ("/flags/?v=2", "/flags/?v=4", "/flags/?v=2&config=true"):
        flag = http.post(path, json=body).json()["flags"]["pricing"]
        assert (flag["key"], flag["enabled"], flag["variant"]) == ("pricing", True, variant)
    for path in ("/decide/?v=3", "/flags/", "/decide"):
        assert http.post(path, json=body).json()["featureFlags"] == {"pricing": variant}
    assert asked(http, key, "u1", flag_keys_to_evaluate=["other"]) == {}
    assert asked(http, key, "u1", flag_keys_to_evaluate="all") == {"pricing": variant}
    assert asked(http, key, None) == {}
    for wrong in ({"distinct_id": []}, {"distinct_id": ""}):
        assert http.post("/flags/?v=2", json={**body, **wrong}).status_code == 400
    assert http.post("/flags/?v=2", json={"distinct_id": "u1"}).status_code == 401


def test_a_key_of_a_tenant_asks_for_that_tenants_experiments(http, shop, pricing):
    key = Keys(shop.store).create("write", "eu", tenant="eu")
    assert asked(http, key, "u1") == {}
    assert http.get(f"/array/{key}/config").json()["hasFeatureFlags"] is False
