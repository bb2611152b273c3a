"""How long iterations take on devices that no model here was made for.

Sources: operator times that Vidur measured (microsoft/vidur at 7d475133, MIT), made into the few
points between which the functions below are linear; attention from the same repository, for the
H100 from inference-sim/inference-sim at a410740f (Apache-2.0), for the RTX PRO 6000 from
casys-kaist/LLMServingSim at 5daddb21 (MIT). The others are made up, each with a shape of its own.
"""

import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from workers.latency.fit import Sample
from workers.latency.model import NO_CHUNKS
from workers.runtime.engine.warm_up import profile


class Batch(NamedTuple):
    """What one iteration computes."""

    chunks: Sequence[tuple[int, int]]
    """Prompt tokens, and tokens computed before them."""
    decodes: int = 0
    decode_context: int = 0

    @property
    def prefill_tokens(self) -> int:
        return sum(tokens for tokens, _ in self.chunks)

    @property
    def tokens(self) -> int:
        return self.prefill_tokens + self.decodes

    @property
    def pairs(self) -> float:
        return sum(tokens * (context + tokens / 2) for tokens, context in self.chunks)

    def sample(self, duration_s: float) -> Sample:
        computed = NO_CHUNKS
        for tokens, context in self.chunks:
            computed = computed.beside(tokens, context)
        tokens, context, pairs = computed
        return Sample(tokens, context, self.decodes, self.decode_context, duration_s, pairs)


Law = Callable[[Batch], float]
"""Seconds of an iteration."""


def _device(
    dense_s: Sequence[tuple[int, float]], *, host_s: float, context_s: float, pair_s: float
) -> Law:
    """`dense_s`: tokens in a batch, and the time of everything but attention."""

    def law(batch: Batch) -> float:
        index = 1
        while index < len(dense_s) - 1 and dense_s[index][0] < batch.tokens:
            index += 1
        (low, low_s), (high, high_s) = dense_s[index - 1 : index + 1]
        share = (batch.tokens - low) / (high - low)
        attention_s = context_s * batch.decode_context + pair_s * batch.pairs
        return host_s + low_s + share * (high_s - low_s) + attention_s

    return law


def _convex(batch: Batch) -> float:
    prefill_s = 2.2e-6 * batch.prefill_tokens**1.35
    return 0.008 + 4e-5 * batch.decodes + 8e-8 * batch.decode_context + prefill_s


def _long_contexts(batch: Batch) -> float:
    """An H200's proportions: 8,192 tokens after 100,000 take 1.37 s, after none 0.31 s."""
    dense_s = max(0.0045, 3.2e-5 * batch.tokens)
    decodes_s = 2e-5 * batch.decodes + 3.2e-8 * batch.decode_context
    return 0.002 + dense_s + decodes_s + 1.3e-9 * batch.pairs


def _graphs(batch: Batch) -> float:
    """Decodes alone run from a graph; with prompts beside them the host is what is slow."""
    if not batch.chunks:
        return 0.0065 + 1.5e-5 * batch.decodes + 5e-8 * batch.decode_context
    busy_s = max(0.016, 0.004 + 4.5e-5 * batch.tokens)
    return busy_s + 5e-8 * batch.decode_context + 1.6e-9 * batch.pairs


LAWS: dict[str, Law] = {
    "A100": _device(
        ((1, 0.0097), (128, 0.0132), (256, 0.0195), (512, 0.0346), (1024, 0.0751), (4096, 0.2736)),
        host_s=0.003,
        context_s=7.6e-8,
        pair_s=3.2e-9,
    ),
    "H100": _device(
        ((1, 0.0056), (128, 0.0064), (256, 0.0092), (512, 0.0120), (1024, 0.0210), (4096, 0.0835)),
        host_s=0.003,
        context_s=4.3e-8,
        pair_s=0.8e-9,
    ),
    "A40": _device(
        ((1, 0.0239), (128, 0.0303), (256, 0.0446), (512, 0.0711), (1024, 0.1369), (4096, 0.5229)),
        host_s=0.004,
        context_s=2.2e-7,
        pair_s=7e-9,
    ),
    "RTX PRO 6000": _device(
        ((1, 0.0121), (128, 0.0135), (256, 0.0158), (512, 0.0241), (1024, 0.0415), (2048, 0.0782)),
        host_s=0.002,
        context_s=9.5e-8,
        pair_s=2.5e-9,
    ),
    "convex": _convex,
    "long contexts": _long_contexts,
    "graphs": _graphs,
}


def noise(rng: random.Random, *, heavy_tailed: bool) -> float:
    """Measured over typical duration: 3% of spread, or 10% and a stall in every hundredth."""
    if not heavy_tailed:
        return max(0.5, rng.gauss(1.0, 0.03))
    stall = rng.uniform(3, 10) if rng.random() < 0.01 else 1.0
    return stall * math.exp(rng.gauss(0.0, 0.1))


def warm_up(chunk_tokens: int, context_tokens: int) -> Iterator[Batch]:
    """The iterations of a fresh worker, as `workers.runtime.engine.warm_up` makes them."""
    for requests in profile(chunk_tokens, context_tokens):
        sizes = [len(request.input_ids) for request in requests]
        for done in range(0, max(sizes), chunk_tokens):
            yield Batch([(min(chunk_tokens, size - done), done) for size in sizes if size > done])
        for token in range(1, requests[0].sampling["max_tokens"]):
            yield Batch((), len(sizes), sum(sizes) + token * len(sizes))


def serving(
    rng: random.Random, chunk_tokens: int, context_tokens: int, count: int
) -> Iterator[Batch]:
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
        yield Batch(chunks, decodes, context)
