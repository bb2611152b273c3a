"""Settings of `niyama worker`."""

import os
import secrets
import socket
from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import CliUnknownArgs, SettingsConfigDict

from niyama.errors import ConfigurationError
from niyama.settings import KafkaSettings, LogSettings
from niyama.suggestions import with_suggestions
from niyama.telemetry.settings import TelemetrySettings
from workers.engine.scheduling import SchedulingOptions
from workers.intake.backpressure import Budget, Limits

MIB = 1024 * 1024


def _worker_id() -> str:
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(2)}"


def _model_dir() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "niyama" / "models"


class WorkerSettings(SchedulingOptions, LogSettings, TelemetrySettings, KafkaSettings):
    """Serve a model: take jobs from Kafka into SGLang.

    Every argument of SGLang's server is accepted too, such as --tp-size 2 or
    --quantization fp8: `python -m sglang.launch_server --help` lists them.
    """

    model_config = SettingsConfigDict(cli_ignore_unknown_args=True)

    model: str | None = Field(
        default=None,
        description="Name or path of a model that SGLang serves; without one, a tiny model is "
        "made on this machine, for trying things out",
    )
    served_model_name: str | None = Field(
        default=None, description="Name by which jobs ask for the model (default: that of --model)"
    )
    model_dir: Path = Field(
        default_factory=_model_dir,
        description="Folder in which the tiny model is made (default: ~/.cache/niyama/models)",
    )
    worker_id: str = Field(
        default_factory=_worker_id,
        min_length=1,
        max_length=128,
        description="Name of this process in events (default: host, process id and a random part)",
    )
    health_host: str = Field(
        default="127.0.0.1", description="Address of /healthz, /readyz and /metrics"
    )
    health_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of /healthz, /readyz and /metrics; 0 serves none of them",
    )
    max_interactive_jobs: int = Field(
        default=4096,
        ge=1,
        description="Jobs of the interactive topic (interactive, deadline, task) in flight before "
        "it is paused",
    )
    max_interactive_prompt_tokens: int = Field(
        default=4_000_000,
        ge=1,
        description="Prompt tokens of these jobs in flight, likewise",
    )
    max_interactive_memory_mib: int = Field(
        default=512,
        ge=1,
        description="MiB of memory that these jobs in flight occupy, likewise; estimated as "
        "6 bytes for each byte of a record, 48 for each token of its prompt, and 300 for each log "
        "probability that it asks for",
    )
    max_batch_jobs: int = Field(
        default=1024,
        ge=1,
        description="Batch jobs in flight before their topics are paused",
    )
    max_batch_prompt_tokens: int = Field(
        default=1_000_000,
        ge=1,
        description="Prompt tokens of batch jobs in flight, likewise",
    )
    max_batch_memory_mib: int = Field(
        default=256,
        ge=1,
        description="MiB of memory that batch jobs in flight occupy, likewise",
    )
    max_attempts: int = Field(
        default=3,
        ge=1,
        le=100,
        description="Deaths of workers during trials of one job after which it fails; a job runs "
        "on trial once two workers have died with it",
    )
    commit_interval_s: float = Field(
        default=0.2, gt=0, le=10, description="Longest time between commits while jobs change state"
    )
    session_timeout_s: float = Field(
        default=10,
        ge=6,
        le=300,
        description="Silence after which Kafka gives a dead worker's partitions to others",
    )
    start_limit_s: float = Field(
        default=3600,
        ge=1,
        le=86400,
        description="Time that SGLang has to load the model and to generate its first tokens",
    )
    hang_limit_s: float = Field(
        default=60,
        ge=2,
        le=3600,
        description="Silence after which an engine, or this process, counts as hung and is ended; "
        "more than the longest iteration takes, and than compiling a kernel at its first use",
    )
    drain_limit_s: float = Field(
        default=30, ge=0, description="Time that running jobs have to finish after SIGTERM"
    )
    engine: Literal["sglang", "null"] = Field(
        default="sglang",
        description="null: no model, made-up tokens, for benchmarks and tests only",
    )
    null_token_delay_ms: float = Field(
        default=0, ge=0, description="Time that the null engine takes for each token"
    )
    sglang_arguments: CliUnknownArgs

    @property
    def limits(self) -> Limits:
        """What may be in flight."""
        return Limits(
            interactive=Budget(
                self.max_interactive_jobs,
                self.max_interactive_prompt_tokens,
                self.max_interactive_memory_mib * MIB,
            ),
            batch=Budget(
                self.max_batch_jobs,
                self.max_batch_prompt_tokens,
                self.max_batch_memory_mib * MIB,
            ),
        )

    def check(self) -> None:
        """Raise ConfigurationError for settings that do not work together."""
        if self.engine == "null" and self.sglang_arguments:
            unknown = with_suggestions(self.sglang_arguments, self.flags())
            raise ConfigurationError(f"unknown arguments for the null engine: {unknown}")
