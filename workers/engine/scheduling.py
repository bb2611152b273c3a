"""The policy's settings that an operator may change: of a worker, of SGLang's processes, and of a
simulation."""

from typing import Self

from pydantic import BaseModel, Field, field_validator, model_validator

from niyama.flags import variable_of
from workers.policy.settings import Alternation, Overload, Settings, TokenTiming

_POLICY = Settings()


class SchedulingOptions(BaseModel):
    """Scheduling.

    Names and defaults are those of `workers.policy.settings.Settings`; docs/scheduler.md says what
    they trade off.
    """

    token_timing: TokenTiming = Field(
        default=_POLICY.token_timing,
        description="What a TBT bounds. paced: every gap between tokens as they are shown, which "
        "under load are held back as far as the TTFT allows. gaps: every gap between tokens as "
        "they are generated. envelope: token n is due at TTFT + n TBT, whatever the gaps",
    )
    overload: Overload = Field(
        default=_POLICY.overload,
        description="Who yields when not all can be met. cutoff: the largest that do not fit. "
        "hybrid: by due time and size, as in the paper. none: nobody, earliest due time first",
    )
    size_bias: float = Field(
        default=_POLICY.size_bias,
        ge=0,
        le=1,
        description="Share of the requests of which the largest yield when not all can be met; "
        "the others, by chance, yield like small ones",
    )
    interactive_weight: float = Field(
        default=_POLICY.interactive_weight,
        ge=0.001,
        le=1_000,
        description="Weight of a request that somebody waits for, relative to batch. In overload "
        "the requests with the most work per weight are relegated first",
    )
    low_importance_weight: float = Field(
        default=_POLICY.low_importance_weight,
        ge=1e-6,
        le=1,
        description="Weight of a request of low importance, relative to one of high. 1: importance "
        "is ignored; 0.000001: all of low importance are relegated before all others",
    )
    tenant_weights: str = Field(
        default="",
        description="Weights of tenants, also used for their fair shares; 1 for tenants not named: "
        "NAME=WEIGHT, comma-separated",
    )
    tenant_fairness: float = Field(
        default=_POLICY.tenant_fairness,
        ge=0,
        le=8,
        description="How much sooner requests of tenants yield that ask for more than their fair "
        "share when not all can be met; 0: no sooner",
    )
    lookahead_base_s: float = Field(
        default=_POLICY.lookahead_base_s,
        ge=0,
        description="Work that is taken on for the next t seconds is at most this and "
        "--lookahead-share of t; lower values relegate earlier",
    )
    lookahead_share: float = Field(
        default=_POLICY.lookahead_share, gt=0, le=1, description="See --lookahead-base-s"
    )
    min_chunk_tokens: int = Field(
        default=_POLICY.min_chunk_tokens,
        ge=1,
        description="Prompt tokens of one iteration when decodes leave no time for any; a quarter "
        "of SGLang's chunk size at most",
    )
    slack_spread_tokens: int = Field(
        default=_POLICY.slack_spread_tokens,
        ge=0,
        description="Tokens of an answer over which its slack is spread at most; 0: all of it is "
        "spent on the next iteration",
    )
    slack_margin: float = Field(
        default=_POLICY.slack_margin,
        ge=1,
        description="An iteration may plan to use 1 / margin of the slack",
    )
    in_time_quantile: float = Field(
        default=_POLICY.in_time_quantile,
        ge=0.5,
        lt=1,
        description="Share of iterations that should end within a TBT that bounds every gap",
    )
    alternation: Alternation = Field(
        default=_POLICY.alternation,
        description="Large batches and decodes alone in turn. measured: where iterations that ran "
        "say that this carries more; predicted: where the latency model says so",
    )
    batch_tbt_s: float = Field(
        default=_POLICY.batch_tbt_s,
        gt=0,
        description="Expected time between two tokens of a batch job",
    )
    deadline_tbt_s: float = Field(
        default=_POLICY.deadline_tbt_s,
        gt=0,
        description="The same of an answer that somebody waits for as a whole",
    )
    late_tbt_s: float = Field(
        default=_POLICY.late_tbt_s,
        gt=0,
        description="The same past the deadline for the last token, where a job yields to others",
    )
    ttft_reserve: float = Field(
        default=_POLICY.ttft_reserve,
        ge=0,
        lt=1,
        description="Share of the TTFT by which first tokens are planned to be early, as slack for "
        "the tokens after them",
    )
    hold_from: float = Field(
        default=_POLICY.hold_from,
        ge=0,
        description="Share of the usable time that work takes from which on paced tokens are held "
        "back",
    )
    hold_full: float = Field(
        default=_POLICY.hold_full,
        gt=0,
        description="Share at which they are held back as far as the TTFT allows",
    )
    memory_weight_s: float = Field(
        default=_POLICY.memory_weight_s,
        ge=0,
        description="Where memory and not time keeps prompts out: seconds per token by which the"
        " larger of two prompts goes later",
    )
    kv_growth_share: float = Field(
        default=_POLICY.kv_growth_share,
        ge=0,
        description="Share of the expected growth of running decodes that is kept free; less "
        "admits more prompts and pushes decodes back more often",
    )
    park: bool = Field(
        default=_POLICY.park, description="Prompts in progress wait for none that is more urgent"
    )
    reclaim_kv: bool = Field(
        default=_POLICY.reclaim_kv,
        description="Parked prompts keep their KV when an interactive one finds no room",
    )
    share_prefixes: bool = Field(
        default=_POLICY.share_prefixes,
        description="Do not plan prompts with a common prefix together",
    )

    @model_validator(mode="after")
    def _holding_back_grows(self) -> Self:
        if self.hold_full <= self.hold_from:
            raise ValueError("--hold-full must be above --hold-from")
        return self

    @field_validator("tenant_weights")
    @classmethod
    def _tenant_weights_parse(cls, text: str) -> str:
        parse_weights(text)
        return text

    def policy_settings(self) -> Settings:
        names = SchedulingOptions.model_fields
        values = {name: getattr(self, name) for name in names}
        return Settings(**{**values, "tenant_weights": parse_weights(self.tenant_weights)})

    def variables(self) -> dict[str, str]:
        """The environment from which `SchedulingSettings` reads these options."""
        names = SchedulingOptions.model_fields
        return {variable_of(name): str(getattr(self, name)) for name in names}


def parse_weights(text: str) -> tuple[tuple[str, float], ...]:
    """`acme=2,other=0.5`: a weight from 0.001 to 1,000 for each name."""
    weights: dict[str, float] = {}
    for part in text.split(",") if text.strip() else ():
        name, _, number = (each.strip() for each in part.rpartition("="))
        try:
            weights[name] = float(number)
        except ValueError:
            weights[name] = 0.0
        if not name or not 0.001 <= weights[name] <= 1_000:
            raise ValueError(f"{part!r} is not NAME=WEIGHT with a weight from 0.001 to 1,000")
    return tuple(weights.items())
