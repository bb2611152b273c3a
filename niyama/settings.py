"""Settings shared by several commands."""

from pathlib import Path

from pydantic import Field, field_validator

from niyama.command_settings import CommandSettings
from niyama.connection_settings import KafkaConnectionSettings
from niyama.logs import LogFormat, LogLevel
from schemas import PoolTopics, QosCatalog


class LogSettings(CommandSettings):
    """Logging."""

    log_level: LogLevel = Field(
        default="info", description="Least severe messages that are logged; upper case works too"
    )
    log_format: LogFormat = Field(
        default="auto",
        description="Readable lines (text), or an object on each line (json); auto: text on a "
        "terminal, json elsewhere",
    )


class KafkaSettings(KafkaConnectionSettings):
    """The topics of one pool."""

    pool: str = Field(
        default="default",
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="The pool: the workers that serve one model, and their topics",
    )
    topic_prefix: str = Field(
        default="niyama",
        pattern=r"^[a-zA-Z0-9_-]{1,64}$",
        description="First part of every topic name",
    )
    topic_partitions: int = Field(
        default=6, ge=1, le=1000, description="Partitions of the topics that this command creates"
    )
    topic_replication: int = Field(
        default=-1,
        ge=-1,
        description="Replicas of the topics that this command creates; -1: the broker's default",
    )
    qos_file: Path | None = Field(
        default=None, description="TOML file of QoS classes, added to the shipped ones"
    )

    @field_validator("qos_file")
    @classmethod
    def _readable_qos_file(cls, path: Path | None) -> Path | None:
        QosCatalog.load(path)  # a broken file fails at start, with a sentence
        return path

    @property
    def topics(self) -> PoolTopics:
        return PoolTopics.of(self.pool, self.topic_prefix, self.topic_partitions)

    @property
    def workers_group(self) -> str:
        """The consumer group of the workers that share the pool's jobs."""
        return f"{self.topic_prefix}-{self.pool}"

    @property
    def qos_catalog(self) -> QosCatalog:
        return QosCatalog.load(self.qos_file)
