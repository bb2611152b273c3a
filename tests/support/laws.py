"""What engines on unknown devices measure while they learn.

The devices are the simulator's, and further ones of shapes that its tables do not have.
"""

import math
import random
from collections.abc import Iterator

from workers.latency.fit import Sample
from workers.latency.model import NO_CHUNKS, Chunks
from workers.runtime.engine.warm_up import profile
from workers.simulator.devices import LAWS as DEVICES
from workers.simulator.laws import Form, Work


def _power(work: Work) -> float:
    """Prompt tokens cost more, the more there are, by another power than the model has."""
    prefill_s = 2.2e-6 * work.prompts.tokens**1.35
    return 0.008 + 4e-5 * work.decodes + 8e-8 * work.decode_context + prefill_s


def long_contexts(work: Work) -> float:
    """An H200's proportions: 8,192 tokens after 100,000 take 1.37 s, after none 0.31 s."""
    dense_s = max(0.0045, 3.2e-5 * (work.prompts.tokens + work.decodes))
    decodes_s = 2e-5 * work.decodes + 3.2e-8 * work.decode_context
    return 0.002 + dense_s + decodes_s + 1.3e-9 * work.prompts.pairs


def _graphs(work: Work) -> float:
    """Decodes alone run from a graph; with prompts beside them the host is what is slow."""
    attention_s = 5e-8 * work.decode_context + 1.6e-9 * work.prompts.pairs
    if not work.prompts.tokens:
        return 0.0065 + 1.5e-5 * work.decodes + attention_s
    return max(0.016, 0.004 + 4.5e-5 * (work.prompts.tokens + work.decodes)) + attention_s


FORMS: dict[str, Form] = {
    **{name: DEVICES[name].form for name in ("a100", "h100", "rtx-pro-6000", "convex", "host")},
    "power": _power,
    "long contexts": long_contexts,
    "graphs": _graphs,
}


def sample(work: Work, duration_s: float) -> Sample:
    tokens, context, pairs = work.prompts
    return Sample(tokens, context, work.decodes, work.decode_context, duration_s, pairs)


def noise(rng: random.Random, *, heavy_tailed: bool) -> float:
    """Measured over typical duration: 3% of spread, or 10% and a stall in every hundredth."""
    if not heavy_tailed:
        return max(0.5, rng.gauss(1.0, 0.03))
    stall = rng.uniform(3, 10) if rng.random() < 0.01 else 1.0
    return stall * math.exp(rng.gauss(0.0, 0.1))


def warm_up(chunk_tokens: int, context_tokens: int) -> Iterator[Work]:
    """The iterations of a fresh worker, as `workers.runtime.engine.warm_up` makes them."""
    for requests in profile(chunk_tokens, context_tokens):
        sizes = [len(request.input_ids) for request in requests]
        for done in range(0, max(sizes), chunk_tokens):
            chunks = [(min(chunk_tokens, size - done), done) for size in sizes if size > done]
            yield Work(_together(chunks), 0, 0)
        for token in range(1, requests[0].sampling["max_tokens"]):
            yield Work(NO_CHUNKS, len(sizes), sum(sizes) + token * len(sizes))


def serving(
    rng: random.Random, chunk_tokens: int, context_tokens: int, count: int
) -> Iterator[Work]:
    """A mixed load: up to 128 decodes, and chunks of up to six prompts, most of them short."""
    for _ in range(count):
        decodes = rng.randrange(2 ** rng.randrange(8))
        context = sum(int(context_tokens * rng.random() ** 3) + 50 for _ in range(decodes))
        chunks: list[tuple[int, int]] = []
        left = int(chunk_tokens * rng.random() ** 2) + 16
        if decodes and rng.random() < 0.35:
            left = 0
        while left > 0 and len(chunks) < 6:
            tokens = min(left, rng.randint(16, chunk_tokens))
            chunks.append((tokens, rng.choice([0, int(context_tokens * rng.random())])))
            left -= tokens
        yield Work(_together(chunks), decodes, context)


def _together(chunks: list[tuple[int, int]]) -> Chunks:
    """Chunks, each with the tokens computed before it."""
    computed = NO_CHUNKS
    for tokens, context in chunks:
        computed = computed.beside(tokens, context)
    return computed
