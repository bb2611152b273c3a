"""The policy's settings that an operator may change, and their way into SGLang's processes."""

from pydantic import BaseModel, Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from niyama.flags import VARIABLE_PREFIX, variable_of
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


class SchedulingSettings(SchedulingOptions, BaseSettings):
    """The options as SGLang's processes find them in their environment."""

    model_config = SettingsConfigDict(env_prefix=VARIABLE_PREFIX)

    token_timing: TokenTiming = TokenTiming.GAPS
    """Without a worker: paced needs a reader that holds tokens back, as a worker does."""
