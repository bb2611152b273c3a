"""Settings of the gateway and of the migrations."""

import re
from functools import cached_property

from pydantic import Field, SecretStr, field_validator

from gateway.postgres.url import PostgresUrl
from niyama.command_settings import CommandSettings
from niyama.settings import KafkaSettings, LogSettings
from niyama.telemetry.settings import TelemetrySettings


class DatabaseSettings(CommandSettings):
    """The ledger's database."""

    database_url: str = Field(
        default="postgresql://postgres@127.0.0.1:5432/niyama",
        description="The ledger's Postgres, as libpq spells it: "
        "postgresql://user:password@host:port/database?sslmode=require",
    )

    @field_validator("database_url")
    @classmethod
    def _readable(cls, url: str) -> str:
        PostgresUrl.parse(url)  # one that cannot work fails at start, with a sentence
        return url

    @cached_property
    def postgres(self) -> PostgresUrl:
        """The database URL, read."""
        return PostgresUrl.parse(self.database_url)

    @property
    def shown_database_url(self) -> str:
        """The URL as it may be printed: without its password."""
        return self.postgres.shown


class GatewaySettings(LogSettings, TelemetrySettings, KafkaSettings, DatabaseSettings):
    """Serve the HTTP API, and keep the ledger that it answers from."""

    api_host: str = Field(default="127.0.0.1", description="Address that the API listens on")
    api_port: int = Field(
        default=8080, ge=0, le=65535, description="Port that the API listens on; 0 takes a free one"
    )
    model: str | None = Field(
        default=None,
        description="The model that the pool serves; jobs for any other model are then refused",
    )
    database_connections: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="Maximum connections to Postgres for API requests; a gateway opens up to "
        "five more",
    )
    idempotency_secret: SecretStr | None = Field(
        default=None,
        min_length=16,
        description="Turns Idempotency-Keys into job ids; the same for every gateway. Without it "
        "the gateways share one that they keep in Postgres",
    )
    reply_topics: str = Field(
        default="niyama-replies.*",
        description="Topics that jobs may name for their replies, comma-separated; a name that "
        "ends in * stands for every topic with that prefix",
    )
    create_reply_topics: bool = Field(
        default=False, description="Create reply topics that do not exist, instead of waiting"
    )
    reply_timeout_s: float = Field(
        default=86_400,
        gt=0,
        le=10 * 365 * 86_400,
        description="How long a reply that Kafka does not accept is retried before it is given "
        "up as undeliverable",
    )

    @field_validator("reply_topics")
    @classmethod
    def _topic_patterns(cls, patterns: str) -> str:
        for pattern in _split(patterns):
            if not re.fullmatch(r"[a-zA-Z0-9._-]*\*?", pattern):
                raise ValueError(f"{pattern!r} is neither a topic nor a prefix that ends in *")
        return patterns

    @property
    def reply_topic_patterns(self) -> tuple[str, ...]:
        """`reply_topics`, one by one."""
        return _split(self.reply_topics)


def _split(patterns: str) -> tuple[str, ...]:
    return tuple(filter(None, (pattern.strip() for pattern in patterns.split(","))))
