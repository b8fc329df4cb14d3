"""Every path of the OpenAPI document, by schemathesis: whatever is sent, no 500 and no answer that isn't described."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from bizcode import Business, ManualClock
from bizcode.serve import Keys, background
from bizcode.serve.api.openapi import document
from bizcode.serve.api.router import ENDPOINTS

CHECKS = (not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance)
SCHEMA = schemathesis.openapi.from_dict(document(ENDPOINTS, "0", ""))
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations()]
QUIETLY = settings(
    max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    clock = ManualClock("2024-03-10T12:00:00")
    with Business(tmp_path_factory.mktemp("openapi") / "shop", clock=clock, worker=False) as biz:
        for n in range(200):
            biz.track.A(user_id=f"u{n % 20}", n=n, at_hour=n % 24)
            biz.measure.m(n)
        biz.Order("o1").append("created", total=1)
        with background(biz, rate=None) as url:
            yield url, Keys(biz.store).create("admin")


def test_every_endpoint_is_described():
    assert len(OPERATIONS) == len(ENDPOINTS)
    assert len({operation.definition.raw["operationId"] for operation in OPERATIONS}) == len(ENDPOINTS)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.label)
def test_whatever_is_sent(served, operation, mode):
    url, token = served
    if (
        mode is GenerationMode.NEGATIVE
        and "{" not in operation.path
        and not operation.definition.raw["parameters"]
    ):
        return  # there is nothing to get wrong

    @QUIETLY
    @given(case=operation.as_strategy(mode))
    def send(case):
        case.headers = {**dict(case.headers or {}), "authorization": f"Bearer {token}"}
        answer = case.call(base_url=f"{url}/api/v1")
        case.validate_response(answer, checks=CHECKS)

    send()
