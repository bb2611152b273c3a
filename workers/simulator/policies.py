"""Policies by name, as the command line and the benchmark know them."""

import re
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial

from niyama.errors import ConfigurationError
from workers.latency.model import LatencyModel
from workers.policy.policy import NiyamaPolicy
from workers.policy.settings import Alternation, Overload, Settings, TokenTiming
from workers.simulator.baselines import (
    FixedChunkPolicy,
    Key,
    SheddingPolicy,
    edf_key,
    fcfs_key,
    srpf_key,
)
from workers.simulator.jitserve import JitServePolicy
from workers.simulator.paper import PAPER_ANSWER_S, PaperPolicy
from workers.simulator.planner import Planner

PolicyFactory = Callable[[LatencyModel], Planner]

_DEFAULT = Settings()


def _niyama(settings: Settings) -> PolicyFactory:
    return lambda model: NiyamaPolicy(model, settings)


def _fixed(key: Key, chunk_tokens: int) -> PolicyFactory:
    return lambda _model: FixedChunkPolicy(key, chunk_tokens)


def _shedding(key: Key, chunk_tokens: int) -> PolicyFactory:
    return lambda _model: SheddingPolicy(
        key, chunk_tokens, answer_s=PAPER_ANSWER_S, use_importance=True
    )


def _jitserve(chunk_tokens: int, *, batch_requests: int, just_enough: bool = True) -> PolicyFactory:
    return lambda _model: JitServePolicy(
        chunk_tokens, batch_requests=batch_requests, just_enough=just_enough
    )


ABLATIONS: Mapping[str, Settings] = {
    "niyama": _DEFAULT,
    "niyama/envelope": replace(_DEFAULT, token_timing=TokenTiming.ENVELOPE),
    "niyama/gaps": replace(_DEFAULT, token_timing=TokenTiming.GAPS),
    "niyama/no-spread": replace(_DEFAULT, slack_spread_tokens=0),
    "niyama/no-alternation": replace(_DEFAULT, alternation=Alternation.OFF),
    "niyama/alternation": replace(_DEFAULT, alternation=Alternation.PREDICTED),
    "niyama/no-cutoff": replace(_DEFAULT, overload=Overload.NONE),
    "niyama/hybrid": replace(_DEFAULT, overload=Overload.HYBRID),
    "niyama/no-park": replace(_DEFAULT, park=False),
    "niyama/reserve-25": replace(_DEFAULT, ttft_reserve=0.25),
    "niyama/no-calibration": replace(_DEFAULT, calibrate=False),
    "niyama/no-reclaim": replace(_DEFAULT, reclaim_kv=False),
    "niyama/no-kv-growth": replace(_DEFAULT, kv_growth_share=0.0),
    "niyama/chunk-256": replace(_DEFAULT, min_chunk_tokens=256, max_chunk_tokens=256),
    "niyama/size-bias-50": replace(_DEFAULT, size_bias=0.5),
    "niyama/size-bias-0": replace(_DEFAULT, size_bias=0.0),
    "niyama/no-history": replace(_DEFAULT, learn_answer_lengths=False),
    "niyama/no-drafts": replace(_DEFAULT, count_drafts=False),
    "niyama/no-shared-prefixes": replace(_DEFAULT, share_prefixes=False),
    "niyama/size-bias-90": replace(_DEFAULT, size_bias=0.9),
    "niyama/no-fairness": replace(_DEFAULT, tenant_fairness=0.0),
    "niyama/strict-fairness": replace(_DEFAULT, tenant_fairness=3.0),
    "niyama/strict-importance": replace(_DEFAULT, low_importance_weight=1e-6),
    "niyama/no-importance": replace(_DEFAULT, low_importance_weight=1.0),
    "niyama/no-task-shares": replace(_DEFAULT, share_tasks=False),
    "niyama/no-cached-prefixes": replace(_DEFAULT, discount_cached_prefixes=False),
}
"""Settings that leave out one mechanism each, for `niyama simulate --policy niyama/no-spread`."""

POLICIES: Mapping[str, PolicyFactory] = {
    "niyama-paper": PaperPolicy,
    "niyama-paper/artifact": partial(PaperPolicy, answer_s=0.0, use_importance=False),
    "fcfs": _fixed(fcfs_key, 256),
    "edf": _fixed(edf_key, 256),
    "srpf": _fixed(srpf_key, 256),
    "edf-shed": _shedding(edf_key, 256),
    "srpf-shed": _shedding(srpf_key, 256),
    "jitserve": _jitserve(256, batch_requests=64),
    "jitserve-512": _jitserve(512, batch_requests=64),
    "jitserve-512/batch-32": _jitserve(512, batch_requests=32),
    "jitserve/artifact": _jitserve(512, batch_requests=32, just_enough=False),
    **{name: _niyama(settings) for name, settings in ABLATIONS.items()},
}


_KEYS: Mapping[str, Key] = {"fcfs": fcfs_key, "edf": edf_key, "srpf": srpf_key}
_FORMER_NAMES = {
    "niyama/no-cut": "niyama/no-cutoff",
    "niyama/no-give-back": "niyama/no-reclaim",
    "niyama-paper/answers": "niyama-paper",
}
"""Accepted too, so that results from before can be compared."""


def policy_factory(name: str, settings: Settings = _DEFAULT) -> PolicyFactory:
    """Raises ConfigurationError for a name that is not known.

    `settings` are those of `niyama`, and of its variants in all that they do not change.
    """
    name = _FORMER_NAMES.get(name, name)
    if name in ABLATIONS:
        return _niyama(_changed(settings, ABLATIONS[name]))
    factory = POLICIES.get(name) or _in_chunks(name)
    if factory is None:
        raise ConfigurationError(f"no policy {name!r}; there are {', '.join(sorted(POLICIES))}")
    return factory


def drafting_policy(
    name: str, settings: Settings, model: LatencyModel, tokens: int
) -> NiyamaPolicy:
    """A policy that knows of drafts: each decode verifies so many tokens in an iteration.

    Raises ConfigurationError for the others.
    """
    if name not in ABLATIONS:
        raise ConfigurationError(f"{name} knows nothing of drafts: use --speculate with niyama")
    return NiyamaPolicy(model, _changed(settings, ABLATIONS[name]), verified_tokens=tokens)


def _in_chunks(name: str) -> PolicyFactory | None:
    """A baseline with chunks of so many tokens, such as `edf-384` or `srpf-shed-320`."""
    parts = re.fullmatch(r"(fcfs|edf|srpf)(-shed)?-([1-9]\d{1,4})", name)
    if parts is None:
        return None
    make = _shedding if parts[2] else _fixed
    return make(_KEYS[parts[1]], int(parts[3]))


def _changed(settings: Settings, variant: Settings) -> Settings:
    """`settings` with what `variant` has other than the defaults."""
    names = (field.name for field in fields(Settings))
    changes = {name: getattr(variant, name) for name in names}
    return replace(settings, **{k: v for k, v in changes.items() if v != getattr(_DEFAULT, k)})
