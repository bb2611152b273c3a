"""Requests, a latency model with which worked arithmetic stays simple, and a plan carried out."""

from dataclasses import replace
from typing import Unpack

from workers.latency.model import Coefficients, LatencyModel
from workers.policy.plan import IterationPlan, IterationResult
from workers.policy.policy import NiyamaPolicy
from workers.policy.qos import Owner, RequestQos
from workers.policy.request import Request

_REGIME = Coefficients(0.010, 0.0001, 0.0, 0.0, 0.0, 0.0)
FLAT_MODEL = LatencyModel(_REGIME, _REGIME, split_tokens=512)
"""10 ms and 0.1 ms per token, whatever the batch."""
SLOW_MIX_MODEL = LatencyModel(
    replace(_REGIME, decode_context_token_s=1e-4),
    replace(_REGIME, decode_context_token_s=1e-4),
    split_tokens=512,
    decode_only=_REGIME,
)
"""Beside prompts, each token of a decode's context costs what a prompt token does."""
PLENTY = 1_000_000
"""More KV than anything here needs, tokens."""


def chat(
    request_id: str,
    prompt_tokens: int,
    *,
    arrival_s: float = 0.0,
    ttft_s: float = 6.0,
    tbt_s: float = 0.05,
    **owner: Unpack[Owner],
) -> Request:
    """An interactive request; `owner` has further fields of a job."""
    wanted = RequestQos.interactive(arrival_s, ttft_s=ttft_s, tbt_s=tbt_s, **owner)
    return Request(request_id, wanted, prompt_tokens)


def batch(
    request_id: str,
    prompt_tokens: int,
    *,
    arrival_s: float = 0.0,
    ttlt_s: float = 600.0,
    **owner: Unpack[Owner],
) -> Request:
    """A batch request; `owner` has further fields of a job."""
    return Request(request_id, RequestQos.batch(arrival_s, ttlt_s=ttlt_s, **owner), prompt_tokens)


def awaited(
    request_id: str,
    prompt_tokens: int,
    *,
    arrival_s: float = 0.0,
    ttlt_s: float = 8.0,
    **owner: Unpack[Owner],
) -> Request:
    """A request whose whole answer somebody waits for; `owner` has further fields of a job."""
    wanted = RequestQos.deadline(arrival_s, ttlt_s=ttlt_s, **owner)
    return Request(request_id, wanted, prompt_tokens)


def either(
    request_id: str,
    prompt_tokens: int,
    *,
    arrival_s: float,
    target_s: float,
    tbt_s: float | None,
    **owner: Unpack[Owner],
) -> Request:
    """A chat with this TTFT and TBT, or batch work with this TTLT when there is no TBT."""
    if tbt_s is None:
        return batch(request_id, prompt_tokens, arrival_s=arrival_s, ttlt_s=target_s, **owner)
    return chat(
        request_id, prompt_tokens, arrival_s=arrival_s, ttft_s=target_s, tbt_s=tbt_s, **owner
    )


def serve(
    policy: NiyamaPolicy, now_s: float, free: int = PLENTY, finished: tuple[str, ...] = ()
) -> tuple[IterationPlan, float]:
    """Plan one iteration and let it take exactly what was predicted."""
    plan = policy.plan(now_s, free)
    end_s = now_s + plan.predicted_s
    policy.observe(IterationResult(end_s, plan.predicted_s, plan.chunks, finished))
    return plan, end_s
