"""A Kafka that asks who is there: one broker, with a listener for each way of saying so."""

from pathlib import Path
from typing import Any

from niyama.local.kafka import LocalKafka
from niyama.local.ports import LOOPBACK, free_port
from tests.support.certificates import Certificates

USERS = ("admin", "producer", "worker", "gateway")
PASSWORD = "admin-s3cret"
REAUTHENTICATE_MS = 1_000
"""How long a broker serves a connection that authenticated with a token."""

_MODULES = "org.apache.kafka.common.security"
_PLAIN_USERS = " ".join(f'user_{user}="{PASSWORD}"' for user in USERS)
_JAAS = {
    "password.plain": f"{_MODULES}.plain.PlainLoginModule required {_PLAIN_USERS};",
    "password.scram-sha-256": f"{_MODULES}.scram.ScramLoginModule required;",
    "password.scram-sha-512": f"{_MODULES}.scram.ScramLoginModule required;",
    "token.oauthbearer": f"{_MODULES}.oauthbearer.OAuthBearerLoginModule required;",
}


class SecuredKafka(LocalKafka):
    """Beside the plaintext listener, whose clients may do everything:

    PASSWORD (TLS; PLAIN and SCRAM), CERTIFICATE (mutual TLS) and TOKEN (OAUTHBEARER with Kafka's
    validator of unsigned tokens). `admin` may do everything, too; others what ACLs allow.
    """

    format_options = tuple(
        option
        for user in USERS
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for option in ("--add-scram", f"{mechanism}=[name={user},password={PASSWORD}]")
    )

    def __init__(self, folder: Path, certificates: Certificates) -> None:
        super().__init__(folder)
        self.certificates = certificates
        certificate, key = certificates.make("broker")
        self._identity = folder.with_suffix(".pem")
        self._identity.write_text(key.read_text() + certificate.read_text())
        self._ports = {name: free_port() for name in ("PASSWORD", "CERTIFICATE", "TOKEN")}

    def settings(self, controller_port: int, data: Path) -> dict[str, str | int]:
        plain = super().settings(controller_port, data)
        addresses = [f"{name}://{LOOPBACK}:{port}" for name, port in self._ports.items()]
        own = {f"listener.name.{name}": value for name, value in self._listener_settings().items()}
        return (
            plain
            | own
            | {
                "listeners": ",".join([str(plain["listeners"]), *addresses]),
                "advertised.listeners": ",".join([str(plain["advertised.listeners"]), *addresses]),
                "listener.security.protocol.map": f"{plain['listener.security.protocol.map']},"
                "PASSWORD:SASL_SSL,CERTIFICATE:SSL,TOKEN:SASL_PLAINTEXT",
                "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                "super.users": "User:ANONYMOUS;User:admin;User:CN=admin",
            }
        )

    def _listener_settings(self) -> dict[str, str | int]:
        jaas = {f"{name}.sasl.jaas.config": value for name, value in _JAAS.items()}
        tls = {
            f"{listener}.{name}": value
            for listener in ("password", "certificate")
            for name, value in {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(self._identity),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(self.certificates.ca),
            }.items()
        }
        return (
            jaas
            | tls
            | {
                "password.sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
                "certificate.ssl.client.auth": "required",
                "token.sasl.enabled.mechanisms": "OAUTHBEARER",
                "token.oauthbearer.connections.max.reauth.ms": REAUTHENTICATE_MS,
            }
        )

    # ---- settings of clients

    def with_password(self, user: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, Any]:
        return {
            "kafka_bootstrap": f"{LOOPBACK}:{self._ports['PASSWORD']}",
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": mechanism,
            "kafka_username": user,
            "kafka_password": PASSWORD,
            "kafka_ca_file": self.certificates.ca,
        }

    def with_certificate(self, user: str) -> dict[str, Any]:
        certificate, key = self.certificates.make(user, password=PASSWORD)
        return {
            "kafka_bootstrap": f"{LOOPBACK}:{self._ports['CERTIFICATE']}",
            "kafka_security_protocol": "SSL",
            "kafka_ca_file": self.certificates.ca,
            "kafka_certificate_file": certificate,
            "kafka_key_file": key,
            "kafka_key_password": PASSWORD,
        }

    def with_token(self, **source: Any) -> dict[str, Any]:
        """`source` says where tokens come from."""
        return {
            "kafka_bootstrap": f"{LOOPBACK}:{self._ports['TOKEN']}",
            "kafka_security_protocol": "SASL_PLAINTEXT",
            "kafka_sasl_mechanism": "OAUTHBEARER",
            **source,
        }
