"""How long a device really takes, apart from what the scheduler believes.

A law has a form, a function of what one iteration computes, and disturbances, which make the
time that passes out of it: noise, stalls, slow phases. Neither has to be of the form of the
scheduler's latency model, so a simulated device can prove it wrong by more than a factor.
"""

import bisect
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from workers.latency.model import Chunks, LatencyModel


class Work(NamedTuple):
    """What one iteration computes."""

    prompts: Chunks
    decodes: int
    """Sequences."""
    decode_context: int
    """Sum of their context lengths, tokens."""
    verified_tokens: int = 1
    """What is computed of each sequence; more than 1 with drafts."""

    @property
    def decode_tokens(self) -> int:
        return self.decodes * self.verified_tokens


Form = Callable[[Work], float]
"""Seconds that an undisturbed iteration takes."""
Disturbance = Callable[[random.Random, float, float], float]
"""The seconds that pass, from a seeded generator, when the iteration starts, and its seconds
without the disturbance."""


@dataclass(frozen=True, slots=True)
class Law:
    name: str
    form: Form
    kv_tokens: int
    """KV memory of the device, tokens."""
    source: str
    """What it was made of, in a sentence."""
    disturbances: tuple[Disturbance, ...] = ()

    def lasts_s(self, work: Work, start_s: float, chance: random.Random) -> float:
        """How long this iteration takes, this time."""
        duration_s = self.form(work)
        for disturbance in self.disturbances:
            duration_s = disturbance(chance, start_s, duration_s)
        return duration_s


def linear(model: LatencyModel) -> Form:
    """The scheduler's own form."""

    def iteration_s(work: Work) -> float:
        tokens, context, pairs = work.prompts
        return model.iteration_s(tokens, context, work.decode_tokens, work.decode_context, pairs)

    return iteration_s


@dataclass(frozen=True, slots=True)
class Operators:
    """A transformer's iteration as the sum of its operators' times.

    Everything but attention depends on the number of tokens alone, by a curve through measured
    points. Attention of prompts is proportional to `Chunks.pairs`, that of decodes to
    their context; each costs a constant time when it runs at all.
    """

    dense: tuple[tuple[int, float], ...]
    """Tokens and seconds, ascending: linear between the points and beyond the last two."""
    pair_s: float
    decode_context_token_s: float
    prefill_attention_s: float = 0.0
    decode_attention_s: float = 0.0
    mixed_factor: float = 1.0
    """Attention of prompts and decodes in one batch, over the sum of both alone."""
    head_s: float = 0.0
    """Logits and sampling."""
    host_s: float = 0.0
    """Host time that nothing overlaps, of each iteration,"""
    host_sequence_s: float = 0.0
    """and of each sequence that gets a token in it."""

    def __call__(self, work: Work) -> float:
        prefill_s = self.prefill_attention_s + self.pair_s * work.prompts.pairs
        decode_s = self.decode_attention_s + self.decode_context_token_s * work.decode_context
        if work.prompts.tokens and work.decodes:
            attention_s = self.mixed_factor * (prefill_s + decode_s)
        else:
            attention_s = prefill_s if work.prompts.tokens else decode_s
        dense_s = _interpolated(self.dense, work.prompts.tokens + work.decode_tokens)
        host_s = self.host_s + self.host_sequence_s * work.decodes
        return dense_s + attention_s + self.head_s + host_s


def _interpolated(points: tuple[tuple[int, float], ...], at: float) -> float:
    index = bisect.bisect_left(points, (at, 0.0))
    index = min(max(1, index), len(points) - 1)
    (left, left_s), (right, right_s) = points[index - 1 : index + 1]
    return left_s + (right_s - left_s) * (at - left) / (right - left)


@dataclass(frozen=True, slots=True)
class Convex:
    """Every prompt token costs more than the one before it, on top of another form."""

    form: Form
    token_squared_s: float

    def __call__(self, work: Work) -> float:
        return self.form(work) + self.token_squared_s * work.prompts.tokens**2


@dataclass(frozen=True, slots=True)
class SlowMix:
    """Beside prompts, each token of a decode's context costs more."""

    form: Form
    decode_context_token_s: float

    def __call__(self, work: Work) -> float:
        mixed_tokens = work.decode_context if work.prompts.tokens else 0
        return self.form(work) + self.decode_context_token_s * mixed_tokens


# ---- disturbances


def noise(share: float) -> Disturbance:
    """A normal deviation of `share` of the time; an iteration takes at least half its time."""
    return lambda chance, _start_s, lasts_s: lasts_s * max(0.5, chance.gauss(1.0, share))


def heavy_tail(probability: float, index: float) -> Disturbance:
    """Some iterations take a Pareto-distributed multiple of their time; a low `index` is worse."""

    def disturbed(chance: random.Random, _start_s: float, lasts_s: float) -> float:
        if chance.random() >= probability:
            return lasts_s
        return lasts_s * chance.paretovariate(index)

    return disturbed


def stalls(every_s: float, mean_s: float) -> Disturbance:
    """Pauses of exponential length, a Poisson process in the time that iterations take."""

    def disturbed(chance: random.Random, _start_s: float, lasts_s: float) -> float:
        if chance.random() >= -math.expm1(-lasts_s / every_s):
            return lasts_s
        return lasts_s + chance.expovariate(1 / mean_s)

    return disturbed


def slow_phases(period_s: float, slow_s: float, factor: float) -> Disturbance:
    """The last `slow_s` of every `period_s` take `factor` times as long: a clock that drops."""

    def disturbed(_chance: random.Random, start_s: float, lasts_s: float) -> float:
        return lasts_s * factor if start_s % period_s >= period_s - slow_s else lasts_s

    return disturbed
