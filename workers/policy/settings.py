"""What an operator may change about the policy, and what an ablation switches off."""

from dataclasses import dataclass
from enum import StrEnum


class TokenTiming(StrEnum):
    """When the tokens of an interactive request, after the first, are due."""

    #: Token n at arrival + TTFT + (n - 1) * TBT, as the paper has it: an early start buys a stall.
    ENVELOPE = "envelope"
    #: Each token TBT after the one before it.
    GAPS = "gaps"
    #: As GAPS, but under load tokens are shown at an even pace behind the engine, so that the
    #: engine has the freedom of the envelope and the reader sees no stall.
    PACED = "paced"


class Overload(StrEnum):
    """What yields when not everything can be met."""

    #: The largest requests that do not fit (`lookahead`); earliest deadline first below that.
    CUT = "cut"
    #: The paper's hybrid key, with a weight that follows the backlog.
    HYBRID = "hybrid"
    #: Nothing: earliest deadline first throughout.
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Settings:
    """Defaults are the ones that measured best; docs/scheduler.md has the figures."""

    timing: TokenTiming = TokenTiming.PACED
    overload: Overload = Overload.CUT

    #: Prefill tokens of one iteration: at least, when decodes leave no slack, and at most.
    min_chunk_tokens: int = 128
    max_chunk_tokens: int = 2560
    #: Slack is used up over the tokens that the most urgent decode is expected to have, at most
    #: this many, not at once; 0: at once.
    slack_spread_tokens: int = 100
    #: Alternate large batches with decodes alone where the latency model makes that cheaper.
    alternate: bool = True
    #: Part of the slack that one iteration may plan to use: 1 / margin.
    slack_margin: float = 1.2
    #: GAPS: share of iterations that should end in time, which sets the margin from recent errors.
    in_time_quantile: float = 0.995
    #: Correct the latency model by what iterations really take.
    calibrate: bool = True

    #: Expected gap between tokens of a batch request, seconds.
    batch_tbt_s: float = 0.1

    #: Work that counts as feasible within t seconds of time left, in seconds:
    #: min(t, lookahead_base_s + lookahead_share * t). The rest is left to later arrivals.
    lookahead_base_s: float = 20.0
    lookahead_share: float = 0.5
    #: 1: the largest requests yield first, 0: chance decides. Lower values spare long prompts.
    size_bias: float = 1.0

    #: HYBRID: seconds per token at and beyond a backlog of 260 s, and up to one of 60 s.
    srpf_weight_high_s: float = 0.1
    srpf_weight_low_s: float = 0.008

    #: PACED: pressure (work over usable time) at which tokens start to be held back, and at which
    #: they are held back as far as the TTFT allows.
    hold_from: float = 0.2
    hold_full: float = 0.5

    #: A prefill in progress waits for a more urgent prompt.
    park: bool = True
    #: Share of the expected growth of running decodes that admission keeps free.
    kv_growth_share: float = 1.0
    #: Parked prompts give their KV back to an interactive prompt that finds no room.
    give_back: bool = True
