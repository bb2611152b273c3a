"""Settings of the gateway and of the migrations."""

import re

from pydantic import Field, field_validator
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from niyama.settings import CommandSettings, KafkaSettings, LogSettings


class DatabaseSettings(CommandSettings):
    """The ledger's database."""

    database_url: str = Field(
        default="postgresql://postgres@127.0.0.1:5432/niyama",
        description="The ledger's Postgres: postgresql://user:password@host:port/database",
    )

    @field_validator("database_url")
    @classmethod
    def _for_asyncpg(cls, url: str) -> str:
        try:
            parsed = make_url(url)
        except (ArgumentError, ValueError):
            parsed = None  # the text may hold a password, so it is not repeated
        if parsed is None or parsed.get_backend_name() not in ("postgresql", "postgres"):
            raise ValueError("give a Postgres URL, such as postgresql://user@host:5432/niyama")
        asyncpg_url = parsed.set(drivername="postgresql+asyncpg")
        return asyncpg_url.render_as_string(hide_password=False)

    @property
    def shown_database_url(self) -> str:
        """The URL as it may be printed: without its password."""
        return make_url(self.database_url).render_as_string(hide_password=True)


class GatewaySettings(LogSettings, KafkaSettings, DatabaseSettings):
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
        description="Maximum connections to Postgres for API requests; the ledger has three more",
    )
    reply_topics: str = Field(
        default="niyama-replies.*",
        description="Topics that jobs may name for their replies, comma-separated; a name that "
        "ends in * stands for all that start so",
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
