"""Settings shared by several commands: flags, or environment variables `NIYAMA_…`."""

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, SettingsConfigDict

from niyama.errors import ConfigurationError
from niyama.flags import VARIABLE_PREFIX, SettingsParser, flag_of, variable_of
from niyama.logs import LogLevel
from schemas import PoolTopics, QosCatalog


class CommandSettings(BaseSettings):
    """Base of one command's settings. Flags win over the environment."""

    model_config = SettingsConfigDict(
        env_prefix=VARIABLE_PREFIX,
        extra="ignore",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags="toggle",
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )
    unknown_arguments_hint: ClassVar[str] = ""
    """What to say to someone who gives arguments that the command does not know."""

    @classmethod
    def from_command_line(cls, arguments: list[str], program: str) -> Self:
        """Parse `arguments`. Exits with help or usage; raises ConfigurationError."""
        try:
            return CliApp.run(cls, cli_args=arguments, cli_settings_source=cls._source(program))
        except ValidationError as error:
            raise ConfigurationError(_explain(error)) from error

    @classmethod
    def flags(cls) -> list[str]:
        """Every flag as it is typed, such as `--log-level`."""
        return cls._source("niyama").root_parser.flags

    @classmethod
    def _source(cls, program: str) -> CliSettingsSource[SettingsParser]:
        return CliSettingsSource(
            cls,
            root_parser=SettingsParser(cls, program, hint=cls.unknown_arguments_hint),
            add_argument_method=SettingsParser.add_setting,
            parse_args_method=SettingsParser.parse,
        )


def _explain(error: ValidationError) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        name = "_".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        setting = f"{flag_of(name)} ({variable_of(name)})"
        lines.append(f"{setting}: {message}" if name else message)
    return "\n".join(lines)


class LogSettings(CommandSettings):
    """Logging."""

    log_level: LogLevel = Field(
        default="info", description="Least severe messages that are logged; upper case works too"
    )


class KafkaSettings(CommandSettings):
    """Kafka, and the topics of one pool."""

    kafka_bootstrap: str = Field(
        default="127.0.0.1:9092", description="Kafka bootstrap servers, comma-separated"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How connections to Kafka are secured"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        default="SCRAM-SHA-512", description="SASL mechanism, with a SASL protocol"
    )
    kafka_username: str | None = Field(default=None, description="SASL user name")
    kafka_password: SecretStr | None = Field(default=None, description="SASL password")
    kafka_ca_file: Path | None = Field(
        default=None,
        description="CA certificates, with an SSL protocol",
    )
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
    def qos_catalog(self) -> QosCatalog:
        return QosCatalog.load(self.qos_file)
