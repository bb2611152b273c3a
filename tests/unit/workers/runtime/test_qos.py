"""A request's quality of service on its way into the scheduler process."""

import pytest

from workers.engine import EngineQos
from workers.niyama.deadlines import Deadlines
from workers.runtime.qos import deadlines, to_custom_params


def test_interactive_deadlines_survive_the_way() -> None:
    qos = EngineQos(arrival_s=1000.0, deadline_s=1001.5, tbt_s=0.25)
    assert deadlines(to_custom_params(qos), received_s=7.0) == Deadlines(1000.0, 1001.5, 0.25)


def test_batch_deadlines_survive_the_way() -> None:
    qos = EngineQos(arrival_s=1000.0, deadline_s=1600.0)
    assert deadlines(to_custom_params(qos), received_s=7.0) == Deadlines(1000.0, 1600.0, None)


def test_targets_count_from_receipt_when_no_arrival_is_given() -> None:
    assert deadlines({"qos": {"ttlt_s": 600}}, received_s=50.0) == Deadlines(50.0, 650.0, None)


@pytest.mark.parametrize("custom_params", [None, {}, {"other": 1}])
def test_a_request_without_qos_is_a_chat(custom_params: dict[str, int] | None) -> None:
    assert deadlines(custom_params, received_s=50.0) == Deadlines(50.0, 51.0, 0.1)


@pytest.mark.parametrize(
    ("qos", "reason"),
    [
        ("chat", "give an object"),
        ({"ttft": 1}, "unknown fields: ttft"),
        ({"ttft_ms": 1}, "needs either ttft_ms and tbt_ms, or ttlt_s"),
        ({"ttft_ms": 1, "tbt_ms": 1, "ttlt_s": 1}, "needs either"),
        ({"ttlt_s": "soon"}, "'soon'; give a number"),
        ({"ttlt_s": float("nan")}, "give a number"),
        ({"ttlt_s": True}, "give a number"),
        ({}, "needs either"),
    ],
)
def test_says_what_is_wrong_with_qos(qos: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        deadlines({"qos": qos}, received_s=0.0)
