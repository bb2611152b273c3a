"""How to connect to Kafka. What cannot work is refused here, before anything connects."""

from contextlib import suppress
from functools import cached_property
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal, Self

from aiokafka.abc import AbstractTokenProvider
from aiokafka.conn import get_ip_port_afi
from pydantic import Field, HttpUrl, SecretStr, field_validator, model_validator

from niyama.command_settings import CommandSettings
from niyama.flags import flag_of, variable_of
from niyama.oauth import ClientCredentials, TokenFile
from niyama.tls import RenewingContext, TlsFiles

PASSWORD_SETTINGS = ("kafka_username", "kafka_password")
ENDPOINT_SETTINGS = (
    "kafka_oauth_client_id",
    "kafka_oauth_client_secret",
    "kafka_oauth_scope",
)
"""They mean something beside a token endpoint only."""
OAUTH_SETTINGS = ("kafka_oauth_token_url", "kafka_oauth_token_file", *ENDPOINT_SETTINGS)
SASL_SETTINGS = (*PASSWORD_SETTINGS, *OAUTH_SETTINGS, "kafka_sasl_mechanism")
TLS_SETTINGS = (
    "kafka_ca_file",
    "kafka_certificate_file",
    "kafka_key_file",
    "kafka_key_password",
)


class KafkaConnectionSettings(CommandSettings):
    """The connection to Kafka."""

    kafka_bootstrap: str = Field(
        default="127.0.0.1:9092", description="Kafka bootstrap servers, comma-separated"
    )
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        default="PLAINTEXT", description="How connections to Kafka are secured"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] = Field(
        default="SCRAM-SHA-512", description="SASL mechanism, with a SASL protocol"
    )
    kafka_username: str | None = Field(
        default=None, description="SASL user name, for PLAIN and SCRAM"
    )
    kafka_password: SecretStr | None = Field(default=None, description="SASL password, likewise")
    kafka_oauth_token_url: HttpUrl | None = Field(
        default=None,
        description="For OAUTHBEARER: where tokens are obtained with client credentials; https, "
        "or this machine",
    )
    kafka_oauth_client_id: str | None = Field(
        default=None, description="Client id for the token endpoint"
    )
    kafka_oauth_client_secret: SecretStr | None = Field(
        default=None, description="Client secret for the token endpoint"
    )
    kafka_oauth_scope: str | None = Field(
        default=None, description="Scope to ask the token endpoint for"
    )
    kafka_oauth_token_file: Path | None = Field(
        default=None,
        description="For OAUTHBEARER: a file with the token, read again for every connection",
    )
    kafka_ca_file: Path | None = Field(
        default=None,
        description="CA certificates, with an SSL protocol (default: those of the system)",
    )
    kafka_certificate_file: Path | None = Field(
        default=None, description="This client's certificate in PEM, for mutual TLS"
    )
    kafka_key_file: Path | None = Field(
        default=None, description="The certificate's private key (default: in the same file)"
    )
    kafka_key_password: SecretStr | None = Field(
        default=None, description="Password of an encrypted private key"
    )

    @field_validator("kafka_bootstrap")
    @classmethod
    def _names_brokers(cls, servers: str) -> str:
        for server in servers.split(","):
            try:
                host, port, _ = get_ip_port_afi(server)
            except ValueError:
                host, port = "", 0
            if not host or "/" in host or not 0 < port < 65536:
                raise ValueError(f"{server!r} is not host:port: name brokers such as kafka:9092")
        return servers

    @field_validator("kafka_oauth_token_url")
    @classmethod
    def _keeps_the_secret(cls, url: HttpUrl | None) -> HttpUrl | None:
        if url is not None and url.scheme == "http" and not _is_loopback(url.host or ""):
            raise ValueError("http would send the client secret in clear: use https")
        return url

    @model_validator(mode="after")
    def _can_connect(self) -> Self:
        if self._uses_sasl:
            self._check_credentials()
        else:
            self._refuse(SASL_SETTINGS, "kafka_security_protocol")
        if self._uses_tls:
            _ = self._tls_context
        else:
            self._refuse(TLS_SETTINGS, "kafka_security_protocol")
        return self

    def client_options(self) -> dict[str, Any]:
        """Arguments that every aiokafka client takes."""
        options: dict[str, Any] = {
            "bootstrap_servers": self.kafka_bootstrap,
            "security_protocol": self.kafka_security_protocol,
        }
        if self._uses_tls:
            options["ssl_context"] = self._tls_context
        if self._uses_sasl:
            options["sasl_mechanism"] = self.kafka_sasl_mechanism
            if self.kafka_sasl_mechanism == "OAUTHBEARER":
                options["sasl_oauth_token_provider"] = self._tokens
            else:
                options["sasl_plain_username"] = self.kafka_username
                options["sasl_plain_password"] = _text(self.kafka_password)
        return options

    @property
    def _uses_sasl(self) -> bool:
        return "SASL" in self.kafka_security_protocol

    @property
    def _uses_tls(self) -> bool:
        return "SSL" in self.kafka_security_protocol

    def _check_credentials(self) -> None:
        mechanism = self.kafka_sasl_mechanism
        if mechanism == "OAUTHBEARER":
            self._refuse(PASSWORD_SETTINGS, "kafka_sasl_mechanism")
            self._check_token_source()
        else:
            self._refuse(OAUTH_SETTINGS, "kafka_sasl_mechanism")
            self._require(PASSWORD_SETTINGS, f"{mechanism} needs it")

    def _check_token_source(self) -> None:
        if self.kafka_oauth_token_file is None:
            self._require(
                ("kafka_oauth_token_url", "kafka_oauth_client_id", "kafka_oauth_client_secret"),
                f"OAUTHBEARER needs it, or a {_shown('kafka_oauth_token_file')}",
            )
        elif self.kafka_oauth_token_url is not None:
            raise ValueError(
                f"give either {_shown('kafka_oauth_token_url')} or "
                f"{_shown('kafka_oauth_token_file')}"
            )
        else:
            self._refuse(ENDPOINT_SETTINGS, "kafka_oauth_token_file")
            TokenFile(self.kafka_oauth_token_file).read()

    def _require(self, names: tuple[str, ...], reason: str) -> None:
        for name in names:
            if not getattr(self, name):
                raise ValueError(f"{_shown(name)} is missing: {reason}")

    def _refuse(self, names: tuple[str, ...], because_of: str) -> None:
        """What was meant to secure the connection must not be ignored."""
        for name in names:
            if name in self.model_fields_set and getattr(self, name) is not None:
                raise ValueError(
                    f"{_shown(name)} has no effect with {getattr(self, because_of)}: "
                    f"change {_shown(because_of)}, or leave it out"
                )

    @cached_property
    def _tokens(self) -> AbstractTokenProvider:
        """One for all clients of this process, so that they share a token."""
        if self.kafka_oauth_token_file is not None:
            return TokenFile(self.kafka_oauth_token_file)
        return ClientCredentials(
            str(self.kafka_oauth_token_url),
            self.kafka_oauth_client_id or "",
            _text(self.kafka_oauth_client_secret) or "",
            self.kafka_oauth_scope,
        )

    @cached_property
    def _tls_context(self) -> RenewingContext:
        """Raises ValueError when a file is not what it should be."""
        if self.kafka_certificate_file is None:
            for name in ("kafka_key_file", "kafka_key_password"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{_shown(name)} needs a {_shown('kafka_certificate_file')}")
        files = TlsFiles(
            self.kafka_ca_file,
            self.kafka_certificate_file,
            self.kafka_key_file,
            _text(self.kafka_key_password) or "",
        )
        try:
            files.load_authorities(context := RenewingContext(files))
        except OSError as error:
            raise ValueError(_unusable("kafka_ca_file", self.kafka_ca_file, error)) from error
        try:
            files.load_certificate(context)
        except OSError as error:
            raise ValueError(self._explain_certificate(error)) from error
        return context

    def _explain_certificate(self, error: OSError) -> str:
        files = [self.kafka_certificate_file, self.kafka_key_file]
        for name, path in zip(("kafka_certificate_file", "kafka_key_file"), files, strict=True):
            if path is not None and not path.is_file():
                return _unusable(name, path, error)
        return (
            f"{_shown('kafka_certificate_file')}, its {_shown('kafka_key_file')} and "
            f"{_shown('kafka_key_password')} do not fit together: {error.strerror or error}"
        )


def _shown(name: str) -> str:
    return f"{flag_of(name)} ({variable_of(name)})"


def _is_loopback(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host.strip("[]")).is_loopback
    return host == "localhost"


def _unusable(name: str, path: Path | None, error: OSError) -> str:
    return f"{_shown(name)} {path} cannot be used: {error.strerror or error}"


def _text(secret: SecretStr | None) -> str | None:
    return secret.get_secret_value() if secret else None
