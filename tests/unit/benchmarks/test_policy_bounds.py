"""What no scheduler can beat, by worked arithmetic."""

import pytest

from tests.benchmarks.policy.bounds import least_missed, least_time_s, throughput_limit_qps
from tests.support.requests import batch
from workers.latency.model import Coefficients, LatencyModel
from workers.simulator.workload import Lengths, SimRequest

_REGIME = Coefficients(0.01024, 0.001, 0.0, 0.0, 0.0, 0.0)
MODEL = LatencyModel(_REGIME, _REGIME, split_tokens=512)
"""10.24 ms per iteration and 1 ms per token of either kind, at most 512 or 2560 of them."""


def test_a_request_costs_its_tokens_and_a_share_of_full_iterations() -> None:
    # 100 prompt tokens at 1 ms + 10.24 ms / 2560, and 10 more tokens at 1 ms.
    assert least_time_s(MODEL, Lengths(100, 11)) == pytest.approx(0.1004 + 0.010)


def test_the_limit_is_what_fits_into_a_second() -> None:
    lengths = [Lengths(100, 11), Lengths(300, 11)]
    assert throughput_limit_qps(MODEL, lengths) == pytest.approx(2 / (0.4016 + 0.020))


def test_the_costliest_requests_have_to_miss() -> None:
    requests = [SimRequest(batch(str(size), size), 1, 0) for size in (400, 100, 200, 300)]
    # 100 + 200 + 300 tokens take 0.6024 s.
    assert least_missed(MODEL, requests, 0.61) == 0.25
    assert least_missed(MODEL, requests, 0.60) == 0.5
    assert least_missed(MODEL, requests, 2.0) == 0.0
    assert least_missed(MODEL, [], 1.0) == 0.0
