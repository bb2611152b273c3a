"""The scheduling options on their way into SGLang's processes."""

from pydantic_settings import BaseSettings, SettingsConfigDict

from niyama.flags import VARIABLE_PREFIX
from workers.engine.scheduling import SchedulingOptions
from workers.policy.settings import TokenTiming


class SchedulingSettings(SchedulingOptions, BaseSettings):
    """The options as SGLang's processes find them in their environment."""

    model_config = SettingsConfigDict(env_prefix=VARIABLE_PREFIX)

    token_timing: TokenTiming = TokenTiming.GAPS
    """Without a worker: paced needs a reader that holds tokens back, as a worker does."""
