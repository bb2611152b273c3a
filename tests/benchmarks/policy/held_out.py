"""Requests that nothing was tuned on."""

import random

from workers.simulator.traces import Trace
from workers.simulator.workload import Lengths, Tier

LONG_CONTEXT_TIERS = (
    Tier.interactive("Q1", ttft_s=30.0, tbt_s=0.1),
    Tier.batch("Q2", ttlt_s=600.0),
    Tier.batch("Q3", ttlt_s=1800.0),
)
"""For prompts of which the longest alone take many seconds."""
_MOST_TOKENS = 32_000


def mixture(requests: int = 20_000, seed: int = 7) -> Trace:
    """Lengths of the form that ServeGen found in production (arXiv 2505.09999).

    Prompts are log-normal with a Pareto tail, answers exponential and independent of them. The
    form is from there; the parameters are ours: a median of 600 tokens, one prompt in ten from a
    tail of index 1.5 that begins at 2,000, answers of 250 tokens on average.
    """
    rng = random.Random(seed)
    lengths = []
    for _ in range(requests):
        in_tail = rng.random() < 0.1
        prompt = 2_000 * rng.paretovariate(1.5) if in_tail else 600 * rng.lognormvariate(0.0, 1.0)
        answer = rng.expovariate(1 / 250)
        lengths.append(Lengths(min(_MOST_TOKENS, 1 + int(prompt)), 1 + min(4_000, int(answer))))
    return Trace("mixture", tuple(lengths), None)
