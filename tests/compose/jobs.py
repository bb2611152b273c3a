"""Jobs for the tiny model, and waiting for them through the status API."""

import time
from collections.abc import Collection, Sequence

import httpx

from schemas import JobRequest, JobStatus

MODEL = "niyama-tiny"
TERMINAL = frozenset(status for status in JobStatus if not status.is_open)
POLL_INTERVAL_S = 0.2


def job(max_tokens: int = 16, qos: str = "batch-1h") -> JobRequest:
    """Generates exactly `max_tokens`, so that it takes a known share of time."""
    return JobRequest(
        model=MODEL, prompt="Once upon a time", qos=qos, max_tokens=max_tokens, ignore_eos=True
    )


def wait_for_states(
    api: httpx.Client, job_ids: Sequence[str], wanted: Collection[str], *, timeout_s: float
) -> None:
    """Return once every job's status is in `wanted`; raise AssertionError with the others.

    The API may be away meanwhile. A job that ends in another state fails the test immediately.
    """
    end_s = time.monotonic() + timeout_s
    while True:
        states = {job_id: _state(api, job_id) for job_id in job_ids}
        other = {job_id: state for job_id, state in states.items() if state not in wanted}
        if not other:
            return
        wrong = {job_id: state for job_id, state in other.items() if state in TERMINAL}
        assert not wrong, f"ended otherwise: {wrong}"
        assert time.monotonic() < end_s, f"after {timeout_s} s still {other}"
        time.sleep(POLL_INTERVAL_S)


def _state(api: httpx.Client, job_id: str) -> str:
    try:
        answer = api.get(f"/v1/jobs/{job_id}")
    except httpx.TransportError as error:
        return f"unknown: {error!r}"
    return str(answer.json()["status"]) if answer.is_success else f"HTTP {answer.status_code}"
