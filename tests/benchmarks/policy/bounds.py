"""What no scheduler can beat, by the latency model alone."""

from collections.abc import Sequence

from workers.latency.model import Coefficients, LatencyModel
from workers.simulator.workload import Lengths, SimRequest

MAX_TOKENS = 2560
"""Prefill tokens of the largest iteration: spreads the fixed cost of an iteration furthest."""


def least_time_s(model: LatencyModel, lengths: Lengths) -> float:
    """GPU time that a request costs at best: full iterations, each token in its cheaper regime."""
    prompt, decodes = lengths.prompt_tokens, lengths.output_tokens - 1
    prefill_s = prompt * min(
        _with_fixed_s(model.small, model.small.per_prefill_token_s, model.split_tokens),
        _with_fixed_s(model.large, model.large.per_prefill_token_s, MAX_TOKENS),
    )
    context = decodes * prompt + decodes * (decodes + 1) / 2
    decode_s = min(
        _decode_s(model.small, decodes, context, model.small.intercept_s / model.split_tokens),
        _decode_s(model.large, decodes, context, 0.0),
    )
    return prefill_s + decode_s


def throughput_limit_qps(model: LatencyModel, lengths: Sequence[Lengths]) -> float:
    """Requests per second of one replica when no request has a deadline."""
    return len(lengths) / sum(least_time_s(model, each) for each in lengths)


def least_missed(model: LatencyModel, requests: Sequence[SimRequest], window_s: float) -> float:
    """Share of requests that has to miss: the costliest, until the rest fits into the window.

    A bound even for a scheduler that knows every answer's length and need not keep any TBT.
    """
    if not requests:
        return 0.0
    times_s = sorted(
        least_time_s(model, Lengths(sim.request.prompt_tokens, sim.output_tokens))
        for sim in requests
    )
    spent_s, met = 0.0, 0
    for time_s in times_s:
        spent_s += time_s
        if spent_s > window_s:
            break
        met += 1
    return 1 - met / len(times_s)


def _with_fixed_s(regime: Coefficients, token_s: float, max_tokens: int) -> float:
    return token_s + regime.intercept_s / max_tokens


def _decode_s(regime: Coefficients, decodes: int, context: float, fixed_s: float) -> float:
    token_s = regime.total_token_s + regime.decode_token_s + fixed_s
    return decodes * token_s + context * regime.decode_context_token_s
