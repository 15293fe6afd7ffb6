"""Whatever is sent to the API, it answers as its schema says, and never with a fault of ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import CHECKS

from flamingo_app.interfaces.service import Limits
from tests.interfaces.serving import served_here

COMPLETIONS = "POST /v1/chat/completions"


@pytest.fixture(scope="module")
def brief(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server whose answers are short: a case may ask for eight of a thousand tokens."""
    with served_here(model_folder, tmp_path_factory.mktemp("brief"), limits=Limits(new_tokens=2)) as address:
        yield address


CHECKED = ("not_a_server_error", "status_code_conformance", "response_schema_conformance")


def send(server: str, cases: int) -> Counter[tuple[str, int]]:
    """So many to the completions, a twentieth of that to every other route; how many of each came back how."""
    schema = schemathesis.openapi.from_url(f"{server}/v1/openapi.json")
    sent: Counter[tuple[str, int]] = Counter()
    for found in schema.get_all_operations():
        operation = found.ok()
        send_to(operation, cases if operation.label == COMPLETIONS else cases // 20, sent)
    assert {200, 400, 404} <= {status for _, status in sent}
    return sent


def send_to(operation: schemathesis.schemas.APIOperation, cases: int, sent: Counter[tuple[str, int]]) -> None:
    @settings(max_examples=cases, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(case=st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)))
    def check(case: schemathesis.Case) -> None:
        if isinstance(case.body, dict) and isinstance(case.body.get("messages"), list):
            case.body |= {"model": "tiny"} if sent.total() % 2 else {}  # or none gets past its name
        response = case.call(timeout=120)
        case.validate_response(response, checks=[CHECKS.get_one(name) for name in CHECKED])
        sent[operation.label, response.status_code] += 1

    check()


def num_completions(sent: Counter[tuple[str, int]]) -> int:
    return sum(number for (label, _), number in sent.items() if label == COMPLETIONS)


def test_the_api_keeps_to_its_schema(brief: str):
    assert num_completions(send(brief, 60)) >= 60


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_two_thousand_requests(brief: str):
    sent = send(brief, 2000)
    print(*(f"{label} {status}: {number}" for (label, status), number in sorted(sent.items())), sep="\n")
    assert num_completions(sent) >= 2000
