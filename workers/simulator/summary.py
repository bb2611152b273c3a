"""The figures of one run."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise

from workers.policy.settings import Settings
from workers.policy.value import weight_of
from workers.simulator.fairness import by_tenant, jains_index
from workers.simulator.outcome import Outcome
from workers.simulator.workload import Tier

PERCENTILES = (50, 90, 99)
_DEFAULT = Settings()


@dataclass(frozen=True, slots=True)
class TierSummary:
    """One tier; shares are of its requests, or tasks; percentiles p50/p90/p99 in seconds."""

    tier: str
    requests: int
    missed_first_or_last: float
    missed_envelope: float
    latency_s: tuple[float, ...]
    """TTFT of an interactive tier, TTLT of others; infinity for what never came."""


@dataclass(frozen=True, slots=True)
class ClassSummary:
    """Requests and tasks that somebody waits for, or those of batch; shares as in `Summary`."""

    requests: int
    missed: float
    relegated: float


@dataclass(frozen=True, slots=True)
class Summary:
    """Shares are between 0 and 1."""

    policy: str
    qps: float
    tiers: tuple[TierSummary, ...]
    missed: float
    """Share of all requests with any token behind its deadline (`Outcome.missed_envelope`)."""
    interactive: ClassSummary
    batch: ClassSummary
    missed_by_size: tuple[float, ...]
    """The same of each tenth by prompt length, the shortest first."""
    missed_important: float
    missed_unimportant: float
    late_gaps: float
    """Share of the true gaps between tokens shown, in the tiers that limit them."""
    longest_gap_p99_s: float
    relegated: float
    goodput_qps: float
    """Requests and tasks per second that met everything."""
    goodput_tokens_per_s: float = 0.0
    """Tokens of answers per second that were in time (`Outcome.tokens_in_time`)."""
    value_kept: float = 1.0
    """Weight of those that met everything, of the weight of all (`workers.policy.value`)."""
    fairness: float = 1.0
    """See `workers.simulator.fairness.jains_index`."""
    missed_by_tenant: Mapping[str, float] = field(default_factory=dict)
    """The same as `missed`, of each tenant's requests."""
    replicas: int = 1
    retractions: int = 0
    seed: int = 1

    @property
    def missed_longest_prompts(self) -> float:
        """Share of the tenth with the longest prompts."""
        return self.missed_by_size[-1]

    def worst_tier(self, scoring: str) -> float:
        """Share of violations in the worst tier: `first` (TTFT or TTLT only) or `envelope`."""
        if scoring == "envelope":
            return max(tier.missed_envelope for tier in self.tiers)
        return max(tier.missed_first_or_last for tier in self.tiers)

    def meets(self, scoring: str, limit: float = 0.01) -> bool:
        """Within the limit in the worst tier; `gaps` also wants at most that share of late gaps."""
        if scoring == "gaps":
            return self.worst_tier("first") <= limit and self.late_gaps <= limit
        return self.worst_tier(scoring) <= limit

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


def summarize(
    outcomes: Sequence[Outcome],
    tiers: Sequence[Tier],
    *,
    policy: str,
    qps: float,
    window_s: float,
    replicas: int = 1,
    retractions: int = 0,
    seed: int = 1,
    settings: Settings = _DEFAULT,
) -> Summary:
    """`outcomes` are the requests that arrived within a window of `window_s` seconds.

    `settings` say what requests are worth.
    """
    gaps = sum(outcome.gaps for outcome in outcomes)
    return Summary(
        policy=policy,
        qps=qps,
        tiers=tuple(
            _tier(tier.name, [o for o in outcomes if o.sim.tier == index])
            for index, tier in enumerate(tiers)
        ),
        missed=_share(outcomes, Outcome.missed_envelope),
        interactive=_class([o for o in outcomes if _is_interactive(o)]),
        batch=_class([o for o in outcomes if not _is_interactive(o)]),
        missed_by_size=tuple(_by_size(outcomes)),
        missed_important=_share(
            [o for o in outcomes if o.sim.request.qos.is_important], Outcome.missed_envelope
        ),
        missed_unimportant=_share(
            [o for o in outcomes if not o.sim.request.qos.is_important], Outcome.missed_envelope
        ),
        late_gaps=sum(outcome.late_gaps for outcome in outcomes) / gaps if gaps else 0.0,
        longest_gap_p99_s=percentile([o.longest_gap_s for o in outcomes if o.gaps], 99),
        relegated=_share(outcomes, _is_relegated),
        goodput_qps=sum(not o.missed_envelope() for o in outcomes) / window_s,
        goodput_tokens_per_s=sum(o.tokens_in_time for o in outcomes) / window_s,
        value_kept=_value_kept(outcomes, settings),
        fairness=jains_index(outcomes, dict(settings.tenant_weights)),
        missed_by_tenant={
            tenant: _share(theirs, Outcome.missed_envelope)
            for tenant, theirs in sorted(by_tenant(outcomes).items())
        },
        replicas=replicas,
        retractions=retractions,
        seed=seed,
    )


def _tier(name: str, outcomes: list[Outcome]) -> TierSummary:
    latencies = [outcome.latency_s() for outcome in outcomes]
    return TierSummary(
        name,
        len(outcomes),
        _share(outcomes, Outcome.missed_first_or_last),
        _share(outcomes, Outcome.missed_envelope),
        tuple(percentile(latencies, p) for p in PERCENTILES),
    )


def _class(outcomes: list[Outcome]) -> ClassSummary:
    missed, relegated = (_share(outcomes, of) for of in (Outcome.missed_envelope, _is_relegated))
    return ClassSummary(len(outcomes), missed, relegated)


def _value_kept(outcomes: Sequence[Outcome], settings: Settings) -> float:
    weights = [weight_of(outcome.sim.request.qos, settings) for outcome in outcomes]
    kept = (w for o, w in zip(outcomes, weights, strict=True) if not o.missed_envelope())
    return sum(kept) / sum(weights) if outcomes else 1.0


def _by_size(outcomes: Sequence[Outcome]) -> Iterator[float]:
    """Share of misses in each tenth by prompt length."""
    ordered = sorted(outcomes, key=lambda outcome: outcome.sim.request.prompt_tokens)
    borders = [len(ordered) * tenth // 10 for tenth in range(11)]
    for first, end in pairwise(borders):
        yield _share(ordered[first:end], Outcome.missed_envelope)


def _is_interactive(outcome: Outcome) -> bool:
    return outcome.sim.request.qos.is_interactive


def _is_relegated(outcome: Outcome) -> bool:
    return outcome.relegated


def _share(outcomes: Sequence[Outcome], test: Callable[[Outcome], bool]) -> float:
    return sum(map(test, outcomes)) / len(outcomes) if outcomes else 0.0


def percentile(values: Sequence[float], percent: int) -> float:
    """The nearest-rank percentile; 0 for no values."""
    if not values:
        return 0.0
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]
