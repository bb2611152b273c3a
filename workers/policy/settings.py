"""What an operator may change about the policy, and what an ablation switches off."""

from dataclasses import dataclass
from enum import StrEnum


class TokenTiming(StrEnum):
    """When the tokens of an interactive request, after the first, are due."""

    ENVELOPE = "envelope"
    """Token n at arrival + TTFT + (n - 1) * TBT, as in the paper: an early start buys a stall."""
    GAPS = "gaps"
    """Each token TBT after the one before it."""
    PACED = "paced"
    """As GAPS, but under load tokens are shown at an even pace behind the engine, so that the
    engine has the freedom of the envelope and the reader sees no stall."""


class Overload(StrEnum):
    """Which requests yield when not all can meet their deadlines."""

    CUTOFF = "cutoff"
    """The largest requests that do not fit (`lookahead`); earliest deadline first below that."""
    HYBRID = "hybrid"
    """The paper's hybrid key, with a weight that follows the backlog."""
    NONE = "none"
    """None: earliest deadline first throughout."""


class Alternation(StrEnum):
    """Whether large batches alternate with decodes alone."""

    OFF = "off"
    MEASURED = "measured"
    """Where measured iterations, with their spread, say that it carries more."""
    PREDICTED = "predicted"
    """Where the latency model says so."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults are the ones that measured best; docs/scheduler.md has the figures."""

    token_timing: TokenTiming = TokenTiming.PACED
    overload: Overload = Overload.CUTOFF

    min_chunk_tokens: int = 128
    """Prefill tokens of one iteration when decodes leave no slack."""
    max_chunk_tokens: int = 2560
    """Prefill tokens of one iteration at most."""
    slack_spread_tokens: int = 100
    """Slack is spent evenly over the tokens that the most urgent decode is expected to have, and
    over at most this many; 0: all of it on the next iteration."""
    alternation: Alternation = Alternation.MEASURED
    """Large batches in turn with decodes alone, instead of equal ones: whether, and on whose word.
    """
    slack_margin: float = 1.2
    """An iteration may plan to use 1 / margin of the slack."""
    in_time_quantile: float = 0.995
    """GAPS: share of iterations that should end in time; sets the margin from recent errors."""
    calibrate: bool = True
    """Correct the latency model by what iterations really take."""

    batch_tbt_s: float = 0.1
    """Expected gap between tokens of a batch request."""
    deadline_tbt_s: float = 0.05
    """The same of an answer that somebody waits for as a whole."""
    late_tbt_s: float = 0.5
    """The same of any answer past the deadline for its last token, where its request yields to
    others; bounds how long it may wait for a token."""
    learn_answer_lengths: bool = True
    """Expect answers as long as those of the same application; else all are like the prior."""
    count_drafts: bool = True
    """Expect as many tokens of an iteration as steps with drafts yield; else one of each decode."""
    share_prefixes: bool = True
    """Prompts that begin alike: those behind the first wait until it has computed the prefix, and
    batch prompts follow each other where deadlines allow."""
    share_tasks: bool = True
    """The time of a task is shared out over its calls; else each call may take all that is left."""
    discount_cached_prefixes: bool = True
    """Prompt tokens in the prefix cache are no work."""

    lookahead_base_s: float = 20.0
    """Work that counts as feasible within t seconds, in seconds: min(t, lookahead_base_s +
    lookahead_share * t). The rest is left to later arrivals."""
    lookahead_share: float = 0.5
    size_bias: float = 1.0
    """Share of the requests, by chance, that yield by size; the others as if they were small."""
    interactive_weight: float = 1.0
    """What a request that somebody waits for is worth beside one of batch: that many times its size
    it yields like one of batch."""
    low_importance_weight: float = 0.125
    """What a request of low importance is worth beside one of high."""
    tenant_weights: tuple[tuple[str, float], ...] = ()
    """What a request of these tenants is worth beside one of others; and their fair shares."""
    tenant_fairness: float = 1.0
    """How much sooner a tenant's requests yield when it asks for more than its fair share: as if
    they were larger by the excess to this power. 0: no sooner."""

    srpf_weight_high_s: float = 0.1
    """HYBRID: seconds per token at and beyond a backlog of 260 s."""
    srpf_weight_low_s: float = 0.008
    """HYBRID: seconds per token up to a backlog of 60 s."""

    ttft_reserve: float = 0.0
    """Share of the TTFT by which a first token is planned to be early, where that is possible: as
    slack for the tokens after it. Not with GAPS, which has no use for it. On Azure Conv 0.25 misses
    a quarter fewer chats beyond capacity; that is not the default until it is measured over hours.
    """
    memory_weight_s: float = 0.01
    """CUTOFF: seconds per token by which the larger of two prompts goes later, where memory and
    not time keeps prompts out; 0: earliest due first there, too."""

    hold_from: float = 0.2
    """PACED: pressure (work over usable time) at which tokens start to be held back."""
    hold_full: float = 0.5
    """PACED: pressure at which tokens are held back as far as the TTFT allows."""

    park: bool = True
    """A prefill in progress waits for a more urgent prompt."""
    kv_growth_share: float = 1.0
    """Share of the expected growth of running decodes that admission keeps free."""
    reclaim_kv: bool = True
    """Parked prompts lose their KV to a prompt that finds no room and whose first token is due."""
