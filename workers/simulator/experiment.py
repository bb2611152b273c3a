"""One simulated run: what is held fixed while policies and rates vary."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from workers.latency.learner import LatencyLearner
from workers.latency.model import LatencyModel
from workers.latency.profiles import Profile
from workers.policy.settings import Settings
from workers.simulator.cluster import RoundRobin, Router, run_cluster
from workers.simulator.devices import law_of
from workers.simulator.drafts import DraftingEngine, Drafts
from workers.simulator.laws import Law, noise
from workers.simulator.policies import drafting_policy, policy_factory
from workers.simulator.replica import Replica
from workers.simulator.summary import Summary, summarize
from workers.simulator.traces import Trace
from workers.simulator.workload import (
    PAPER_TIERS,
    SimRequest,
    Tier,
    make_requests,
    poisson_times,
    square_wave_times,
)

Progress = Callable[[float], None]
_MOST_REPLICAS = 64
"""Seeds of replicas are this far apart from one experiment's seed to the next."""

_DEFAULT = Settings()


@dataclass(frozen=True, slots=True)
class SquareWave:
    """Arrivals alternate between two rates, requests per second."""

    low: float
    high: float
    half_period_s: float = 900.0


@dataclass(frozen=True, slots=True)
class Experiment:
    """What is held fixed while policies and rates vary.

    Requests that arrive in the window count: after a warm-up of `warm_up_s`, and early enough that
    the longest deadline passes before the run ends.
    """

    trace: Trace
    profile: Profile
    tiers: tuple[Tier, ...] = PAPER_TIERS
    duration_s: float = 10_800.0
    warm_up_s: float = 3_600.0
    seed: int = 1
    noise: float = 0.03
    low_importance: float = 0.0
    tenants: tuple[tuple[str, float], ...] = ()
    """Names, and how many requests each has beside the others."""
    kv_tokens: int | None = None
    trace_arrivals: bool = False
    """Arrival times of the trace instead of Poisson; its rate is scaled to the one asked for."""
    square_wave: SquareWave | None = None
    law: Law | None = None
    """What iterations really take; None: what the profile says."""
    predictor_factor: float = 1.0
    """What policies believe, as a factor on the profile's iteration times; 0.8 is 25% too fast."""
    learn: bool = False
    """Policies begin with the profile and learn from what iterations take, as in a worker."""
    overlap: bool = False
    """Iterations are planned while the one before them runs."""
    settings: Settings = _DEFAULT
    """Of the policy `niyama` and its variants."""
    drafts: Drafts | None = None
    """Speculative decoding; None: each decode has one token of an iteration."""
    replicas: int = 1
    router: Callable[[], Router] = RoundRobin

    @property
    def window_s(self) -> tuple[float, float]:
        end_s = self.duration_s - max(tier.target_s for tier in self.tiers)
        if end_s <= self.warm_up_s:  # too short for a mid-run window: score all that is decided
            return 0.0, max(end_s, self.duration_s / 2)
        return self.warm_up_s, end_s

    def requests(self, qps: float) -> list[SimRequest]:
        """The same lengths, tiers and (scaled) arrival pattern for every policy and rate."""
        rng = random.Random(self.seed)
        times_s = self._times(qps, random.Random(self.seed + 1000))
        return make_requests(
            times_s,
            self.trace.lengths,
            self.tiers,
            rng=rng,
            low_importance=self.low_importance,
            tenants=self.tenants,
            # Drawn at random, the same prompts would come again and again.
            in_order=self.trace_arrivals or self.trace.shares_prefixes,
        )

    def _times(self, qps: float, rng: random.Random) -> list[float]:
        if self.square_wave is not None:
            wave = self.square_wave
            return square_wave_times(wave.low, wave.high, wave.half_period_s, self.duration_s, rng)
        arrivals = self.trace.arrivals_s
        if not self.trace_arrivals or arrivals is None:
            return poisson_times(qps, self.duration_s, rng)
        span_s = arrivals[-1] + arrivals[-1] / max(1, len(arrivals) - 1)
        scale = len(arrivals) / span_s / qps
        rounds = math.ceil(self.duration_s / (span_s * scale))
        times = (round_ * span_s + time for round_ in range(rounds) for time in arrivals)
        return [time * scale for time in times if time * scale < self.duration_s]

    def run(self, policy: str, qps: float, progress: Progress | None = None) -> Summary:
        """Simulate one policy at one rate (requests per second of the whole cluster)."""
        replicas = [self.replica(policy, index) for index in range(self.replicas)]
        outcomes = run_cluster(
            self.requests(qps),
            replicas,
            self.router(),
            until_s=self.duration_s,
            progress=progress,
        )
        start_s, end_s = self.window_s
        return summarize(
            [o for o in outcomes if start_s <= o.sim.arrival_s < end_s],
            self.tiers,
            policy=policy,
            qps=qps,
            window_s=end_s - start_s,
            replicas=self.replicas,
            retractions=sum(replica.engine.retractions for replica in replicas),
            seed=self.seed,
            settings=self.settings,
        )

    def replica(self, policy: str, index: int = 0) -> Replica:
        law = self.law or law_of(self.profile)
        kv_tokens = self.kv_tokens or law.kv_tokens
        disturbances = (noise(self.noise), *law.disturbances)
        believed = _scaled(self.profile.latency, self.predictor_factor)
        make = partial(
            Replica,
            law=replace(law, kv_tokens=kv_tokens, disturbances=disturbances),
            overlap=self.overlap,
            learner=LatencyLearner() if self.learn else None,
            seed=index + _MOST_REPLICAS * (self.seed - 1),
        )
        if self.drafts is None:
            return make(policy_factory(policy, self.settings)(believed))
        tokens = self.drafts.verified_tokens
        drafting = drafting_policy(policy, self.settings, believed, tokens)
        knows = drafting.verified_tokens > 1
        return make(
            drafting,
            engine=DraftingEngine(kv_tokens, self.drafts),
            accepted=drafting.accepted if knows else None,
        )


def _scaled(model: LatencyModel, factor: float) -> LatencyModel:
    return model if factor == 1.0 else model.scaled(factor)
