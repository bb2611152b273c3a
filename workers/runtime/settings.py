"""Settings of the policy inside SGLang, from the environment of its processes."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from workers.policy.settings import TokenTiming

_PREFIX = "NIYAMA_"


class SchedulingSettings(BaseSettings):
    """NIYAMA_TOKEN_TIMING and NIYAMA_SIZE_BIAS; docs/scheduler.md says what they trade off."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX)

    token_timing: TokenTiming = TokenTiming.GAPS
    """Paced needs a reader that holds tokens back, as a worker does."""
    size_bias: float = Field(default=1.0, ge=0, le=1)

    def variables(self) -> dict[str, str]:
        """The environment from which another process reads these settings."""
        return {f"{_PREFIX}{name.upper()}": str(value) for name, value in self}
