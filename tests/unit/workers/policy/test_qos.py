"""A request's quality of service on its way into the scheduler process."""

import pytest

from workers.policy.qos import RequestQos, from_custom_params, to_custom_params


@pytest.mark.parametrize(
    "qos",
    [
        RequestQos.interactive(1000.0, ttft_s=1.5, tbt_s=0.25),
        RequestQos.batch(1000.0, ttlt_s=600, importance="low", tenant="acme", application="notes"),
        RequestQos.batch(1000.0, ttlt_s=600.0, expire_after_s=30.0),
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
        ({"ttft_ms": 1}, "needs either ttft_ms and tbt_ms, or ttlt_s"),
        ({"ttft_ms": 1, "tbt_ms": 1, "ttlt_s": 1}, "needs either"),
        ({"ttlt_s": "soon"}, "'soon'; give a number"),
        ({"ttlt_s": float("nan")}, "give a number"),
        ({"ttlt_s": True}, "give a number"),
        ({}, "needs either"),
        ({"ttlt_s": 1, "importance": "vast"}, "'vast'; say high or low"),
        ({"ttlt_s": 1, "tenant": 7}, "tenant.*7; give a string"),
        ({"ttlt_s": 1, "expire_after_s": 0}, "expire_after_s.*is 0; give more than 0"),
        ({"ttlt_s": 1, "expire_after_s": -2.5}, "expire_after_s.*is -2.5; give more than 0"),
        ({"ttlt_s": 1, "expire_after_s": float("inf")}, "expire_after_s.*inf; give a number"),
        ({"ttlt_s": 1, "expire_after_s": None}, "expire_after_s.*None; give a number"),
    ],
)
def test_says_what_is_wrong_with_qos(qos: object, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        from_custom_params({"qos": qos}, received_s=0.0)
