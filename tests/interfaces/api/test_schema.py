"""Whatever is sent to the API, it answers as its schema says, and never with a fault of ours."""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

PATHS = ("/v1/models", "/v1/models/{model}", "/v1/chat/completions")


def send(server: str, cases: int) -> int:
    schema = schemathesis.openapi.from_url(f"{server}/v1/openapi.json")
    checks = [
        CHECKS.get_one(name)
        for name in ("not_a_server_error", "status_code_conformance", "response_schema_conformance")
    ]
    sent: list[int] = []
    for path in PATHS:
        for method in schema[path]:
            operation = schema[path][method]
            share = cases if path == "/v1/chat/completions" else cases // 20

            @settings(
                max_examples=share, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
            )
            @given(
                case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode))
            )
            def check(case: schemathesis.Case) -> None:
                if isinstance(case.body, dict) and isinstance(case.body.get("messages"), list):
                    case.body |= {"model": "tiny"} if len(sent) % 2 else {}
                    case.body |= {"max_tokens": 2} if "max_tokens" in case.body else {}
                response = case.call(timeout=120)
                case.validate_response(response, checks=checks)
                sent.append(response.status_code)

            check()
    assert {200, 400, 404} <= set(sent)
    return len(sent)


def test_the_api_keeps_to_its_schema(server: str):
    assert send(server, 60) >= 60


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_thousand_requests(server: str):
    assert send(server, 2000) >= 2000
