"""The policy's settings that an operator may change: of a worker, and of SGLang's processes."""

from pydantic import BaseModel, Field

from niyama.flags import variable_of
from workers.policy.settings import Settings, TokenTiming

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
    size_bias: float = Field(
        default=_POLICY.size_bias,
        ge=0,
        le=1,
        description="Who yields when not all can be met. 1: the largest requests; 0: chance",
    )

    def variables(self) -> dict[str, str]:
        """The environment from which `SchedulingSettings` reads these options."""
        names = SchedulingOptions.model_fields
        return {variable_of(name): str(getattr(self, name)) for name in names}
