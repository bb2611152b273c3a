"""Settings shared by every command: environment variables ``NIYAMA_…``, or flags."""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, SettingsConfigDict

from niyama.errors import ConfigurationError
from schemas import PoolTopics, QosCatalog


class CommandSettings(BaseSettings):
    """Base of one command's settings. Flags win over the environment."""

    model_config = SettingsConfigDict(
        env_prefix="NIYAMA_",
        extra="ignore",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )

    @classmethod
    def from_command_line(cls, arguments: list[str], program: str) -> Self:
        """Parse ``arguments``. Exits with help or usage; raises ConfigurationError."""
        source: CliSettingsSource[Any] = CliSettingsSource(
            cls, root_parser=None, cli_prog_name=program
        )
        try:
            return CliApp.run(cls, cli_args=arguments, cli_settings_source=source)
        except ValidationError as error:
            raise ConfigurationError(_explain(error)) from error


def _explain(error: ValidationError) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        name = "_".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        setting = f"--{name.replace('_', '-')} (NIYAMA_{name.upper()})"
        lines.append(f"{setting}: {message}" if name else message)
    return "\n".join(lines)


class KafkaSettings(CommandSettings):
    """How to reach Kafka, and the topics of one pool."""

    kafka_bootstrap: str = Field(
        default="127.0.0.1:9092", description="Kafka bootstrap servers, comma-separated"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How to talk to Kafka"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="SASL mechanism, with the SASL protocols"
    )
    kafka_username: str | None = Field(default=None, description="SASL user name")
    kafka_password: SecretStr | None = Field(default=None, description="SASL password")
    kafka_ca_file: Path | None = Field(default=None, description="CA certificates, with SSL")
    pool: str = Field(
        default="default",
        pattern=r"^[a-z0-9][a-z0-9-]{0,62}$",
        description="The pool: replicas that serve one model, and their topics",
    )
    topic_prefix: str = Field(
        default="niyama",
        pattern=r"^[a-zA-Z0-9_-]{1,64}$",
        description="First part of every topic name",
    )
    topic_partitions: int = Field(
        default=6, ge=1, le=1000, description="Partitions of a topic that is missing and is created"
    )
    topic_replication: int = Field(
        default=-1, ge=-1, description="Replicas of such a topic; -1 is the broker's default"
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
    def qos_catalog(self) -> QosCatalog:
        return QosCatalog.load(self.qos_file)
