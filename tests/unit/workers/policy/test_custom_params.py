"""A request's quality of service on its way into the scheduler process."""

import pytest
from pydantic import ValidationError

import schemas.qos
from schemas import QosTargets
from workers.policy import custom_params as of_requests
from workers.policy.custom_params import from_custom_params, to_custom_params
from workers.policy.qos import RequestQos, Task


@pytest.mark.parametrize(
    "qos",
    [
        RequestQos.interactive(1000.0, ttft_s=1.5, tbt_s=0.25),
        RequestQos.batch(1000.0, ttlt_s=600, importance="low", tenant="acme", application="notes"),
        RequestQos.batch(1000.0, ttlt_s=600.0, expire_after_s=30.0),
        RequestQos.deadline(1000.0, ttlt_s=8.0, tenant="acme"),
        RequestQos.call(1000.0, task=Task("trip-17"), deadline_s=1060.5, application="agent"),
        RequestQos.call(1000.0, task=Task("trip-17", 2, 0), deadline_s=990.0, expire_after_s=5.0),
    ],
)
def test_quality_of_service_survives_the_way(qos: RequestQos) -> None:
    assert from_custom_params(to_custom_params(qos), received_s=7.0) == qos


def test_targets_count_from_receipt_when_no_arrival_is_given() -> None:
    assert from_custom_params({"qos": {"ttlt_s": 600}}, received_s=50.0) == RequestQos.batch(
        50.0, ttlt_s=600
    )


def test_an_expiry_counts_from_receipt_when_no_arrival_is_given() -> None:
    qos = {"ttlt_s": 600, "expire_after_s": 30}
    assert from_custom_params({"qos": qos}, received_s=50.0).expires_s == 80.0


def test_a_small_target_that_became_zero_on_the_way_is_read() -> None:
    qos = RequestQos.interactive(1.7e9, ttft_s=1e-9, tbt_s=0.05)
    assert from_custom_params(to_custom_params(qos), received_s=0.0) == qos


@pytest.mark.parametrize("custom_params", [None, {}, {"other": 1}])
def test_a_request_without_qos_is_a_chat(custom_params: dict[str, int] | None) -> None:
    assert from_custom_params(custom_params, received_s=50.0) == RequestQos.interactive(
        50.0, ttft_s=1.0, tbt_s=0.1
    )


@pytest.mark.parametrize(
    ("qos", "reason"),
    [
        ("chat", "give an object"),
        ({"ttft": 1}, "unknown fields: ttft"),
        ({"ttft_ms": 1}, "needs one of: ttft_ms and tbt_ms; ttlt_ms; ttlt_s; task"),
        ({"ttft_ms": 1, "tbt_ms": 1, "ttlt_s": 1}, "needs one of"),
        ({"ttlt_ms": 1, "ttlt_s": 1}, "needs one of"),
        ({"ttft_ms": 1, "tbt_ms": 0}, "tbt_ms.*is 0; give more than 0"),
        ({"ttft_ms": 1, "tbt_ms": -50}, "tbt_ms.*is -50; give more than 0"),
        ({"ttft_ms": -1, "tbt_ms": 50}, "ttft_ms.*is -1; give no less than 0"),
        ({"ttlt_ms": -1}, "ttlt_ms.*is -1; give no less than 0"),
        ({"task": "trip-17"}, "task.*'trip-17'; give an object with id and deadline_s"),
        ({"task": {"id": "a", "ends": 5}}, "task.*unknown fields: ends"),
        ({"task": {"deadline_s": 5}}, "task.*id.*None; give a string"),
        ({"task": {"id": "a"}}, r'"task"\]\["deadline_s"\] is None; give a number'),
        ({"task": {"id": "a", "deadline_s": 5, "call": 0}}, "call.*0; give a number from 1 to"),
        ({"task": {"id": "a", "deadline_s": 5, "calls_left": -1}}, "calls_left.*-1; give a number"),
        ({"task": {"id": "a", "deadline_s": 5, "calls_left": True}}, "True; give a number"),
        ({"ttlt_s": "soon"}, "'soon'; give a number"),
        ({"ttlt_s": float("nan")}, "give a number"),
        ({"ttlt_s": True}, "give a number"),
        ({}, "needs one of"),
        ({"ttlt_s": 1, "importance": "vast"}, "'vast'; say high or low"),
        ({"ttlt_s": 1, "tenant": 7}, "tenant.*7; give a string"),
        ({"ttlt_s": 1, "expire_after_s": 0}, "expire_after_s.*is 0; give more than 0"),
        ({"ttlt_s": 1, "expire_after_s": -2.5}, "expire_after_s.*is -2.5; give more than 0"),
        ({"ttlt_s": 1, "expire_after_s": float("inf")}, "expire_after_s.*inf; give a number"),
        ({"ttlt_s": 1, "expire_after_s": None}, "expire_after_s.*None; give a number"),
        ({"ttlt_s": 5, "arrival_s": 1.7e308}, r"arrival_s.*give a number of at most 1e\+12"),
        ({"ttlt_s": 10**400}, r"ttlt_s.*give a number of at most 1e\+12"),
        ({"ttlt_s": float("inf")}, r"ttlt_s.*give a number of at most 1e\+12"),
        ({"task": {"id": "t", "deadline_s": 1e300}}, r"deadline_s.*at most 1e\+12"),
    ],
)
def test_says_what_is_wrong_with_qos(qos: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_custom_params({"qos": qos}, received_s=0.0)


def test_a_request_has_the_choices_and_the_bounds_of_a_job() -> None:
    """Stated twice, as the policy may import nothing of jobs."""
    with pytest.raises(ValidationError) as of_job:
        QosTargets()
    with pytest.raises(ValueError, match="needs one of: ") as of_request:
        from_custom_params({"qos": {}}, received_s=0.0)

    choices = str(of_request.value).partition(" one of: ")[2]
    assert f"give one of: {choices} [" in str(of_job.value)
    assert of_requests.MAX_CALLS == schemas.qos.MAX_CALLS
