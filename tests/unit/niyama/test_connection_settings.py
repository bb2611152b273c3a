"""How a connection is secured, and what is refused before anything connects."""

import ssl
from pathlib import Path
from typing import Any

import pytest

from niyama.errors import ConfigurationError
from niyama.flags import variable_of
from niyama.oauth import ClientCredentials, TokenFile
from niyama.settings import KafkaSettings
from tests.support.certificates import Certificates

TLS = {"kafka_security_protocol": "SSL"}
SASL = {"kafka_security_protocol": "SASL_PLAINTEXT"}
PASSWORD = SASL | {"kafka_username": "me", "kafka_password": "hunter2"}
OAUTH = SASL | {"kafka_sasl_mechanism": "OAUTHBEARER"}
ENDPOINT = OAUTH | {
    "kafka_oauth_token_url": "https://id.example/token",
    "kafka_oauth_client_id": "worker",
    "kafka_oauth_client_secret": "secret",
}
TOKEN_FILE = OAUTH | {"kafka_oauth_token_file": "/dev/null"}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


def refusal(**settings: Any) -> str:
    flags = [
        text
        for name, value in settings.items()
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]
    with pytest.raises(ConfigurationError) as refused:
        KafkaSettings.from_command_line(flags, "niyama test")
    return str(refused.value)


def test_without_security_nothing_but_the_address_is_passed_on() -> None:
    assert KafkaSettings(kafka_bootstrap="kafka:9092").client_options() == {
        "bootstrap_servers": "kafka:9092",
        "security_protocol": "PLAINTEXT",
    }


@pytest.mark.parametrize(
    "servers",
    ["kafka", "a:1,b:65535", " a:1, b:2 ", "127.0.0.1:9092", "[::1]:9092", "[::1]", "::1"],
)
def test_servers_that_can_be_addressed(servers: str) -> None:
    assert KafkaSettings(kafka_bootstrap=servers).kafka_bootstrap == servers


@pytest.mark.parametrize(
    ("servers", "bad"),
    [
        ("", ""),
        (",", ""),
        ("a:1,,b:2", ""),
        ("a:1,b:none", "b:none"),
        ("a:", "a:"),
        (":9092", ":9092"),
        ("a:0", "a:0"),
        ("a:-1", "a:-1"),
        ("a:65536", "a:65536"),
        ("[::1:9092", "[::1:9092"),
        ("kafka://a:9092", "kafka://a:9092"),
    ],
)
def test_servers_that_cannot_be_addressed(servers: str, bad: str) -> None:
    assert f"{bad!r} is not host:port" in refusal(kafka_bootstrap=servers)


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_name_and_password_are_passed_on(mechanism: str) -> None:
    settings = KafkaSettings(
        **SASL, kafka_sasl_mechanism=mechanism, kafka_username="me", kafka_password="hunter2"
    )
    options = settings.client_options()
    assert options["sasl_mechanism"] == mechanism
    assert (options["sasl_plain_username"], options["sasl_plain_password"]) == ("me", "hunter2")
    assert "hunter2" not in repr(settings)


def test_all_clients_of_a_process_share_one_source_of_tokens(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t")
    for given, kind in [
        (ENDPOINT, ClientCredentials),
        (OAUTH | {"kafka_oauth_token_file": tmp_path / "token"}, TokenFile),
    ]:
        settings = KafkaSettings(**given)
        tokens = settings.client_options()["sasl_oauth_token_provider"]
        assert isinstance(tokens, kind)
        assert settings.client_options()["sasl_oauth_token_provider"] is tokens


def test_a_client_certificate_is_loaded_with_its_encrypted_key(certificates: Certificates) -> None:
    certificate, key = certificates.make("worker", password="secret")
    context = KafkaSettings(
        **TLS,
        kafka_ca_file=certificates.ca,
        kafka_certificate_file=certificate,
        kafka_key_file=key,
        kafka_key_password="secret",
    ).client_options()["ssl_context"]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (SASL, "--kafka-username (NIYAMA_KAFKA_USERNAME) is missing: SCRAM-SHA-512 needs it"),
        (SASL | {"kafka_username": "me"}, "--kafka-password (NIYAMA_KAFKA_PASSWORD) is missing"),
        (
            SASL | {"kafka_username": "me", "kafka_password": ""},
            "(NIYAMA_KAFKA_PASSWORD) is missing",
        ),
        (OAUTH, "--kafka-oauth-token-url (NIYAMA_KAFKA_OAUTH_TOKEN_URL) is missing: OAUTHBEARER"),
        (
            {name: value for name, value in ENDPOINT.items() if "secret" not in name},
            "--kafka-oauth-client-secret (NIYAMA_KAFKA_OAUTH_CLIENT_SECRET) is missing",
        ),
        (ENDPOINT | {"kafka_oauth_token_url": "ftp://id"}, "--kafka-oauth-token-url"),
        (ENDPOINT | {"kafka_oauth_token_file": "/t"}, "give either --kafka-oauth-token-url"),
        (OAUTH | {"kafka_oauth_token_file": "/nowhere"}, "/nowhere cannot be read: No such file"),
        (OAUTH | {"kafka_oauth_token_file": "/dev/null"}, "token file /dev/null is empty"),
        ({"kafka_password": "p"}, "has no effect with PLAINTEXT: change --kafka-security-prot"),
        ({"kafka_ca_file": "/ca"}, "--kafka-ca-file (NIYAMA_KAFKA_CA_FILE) has no effect"),
        (TLS | {"kafka_password": "p"}, "has no effect with SSL: change --kafka-security-protocol"),
        (TLS | {"kafka_ca_file": "/nowhere"}, "/nowhere cannot be used: No such file"),
        (TLS | {"kafka_ca_file": "/dev/null"}, "--kafka-ca-file (NIYAMA_KAFKA_CA_FILE) /dev/null"),
        (TLS | {"kafka_certificate_file": "/no.pem"}, "/no.pem cannot be used: No such file"),
        (TLS | {"kafka_key_file": "/key"}, "needs a --kafka-certificate-file (NIYAMA_KAFKA_CERTIF"),
        (TLS | {"kafka_key_password": "p"}, "needs a --kafka-certificate-file"),
    ],
)
def test_what_cannot_work_is_refused_with_a_sentence(given: dict[str, Any], message: str) -> None:
    assert message in refusal(**given)


@pytest.mark.parametrize(
    ("given", "unused", "because_of"),
    [
        ({}, {"kafka_key_password": "p"}, "PLAINTEXT"),
        ({}, {"kafka_sasl_mechanism": "PLAIN"}, "PLAINTEXT"),
        ({}, {"kafka_sasl_mechanism": "SCRAM-SHA-512"}, "PLAINTEXT"),
        ({}, {"kafka_oauth_client_id": "i"}, "PLAINTEXT"),
        ({}, {"kafka_oauth_client_secret": "s"}, "PLAINTEXT"),
        ({}, {"kafka_oauth_scope": "s"}, "PLAINTEXT"),
        (TLS, {"kafka_oauth_client_secret": "s"}, "SSL"),
        (PASSWORD, {"kafka_key_password": "p"}, "SASL_PLAINTEXT"),
        (PASSWORD, {"kafka_oauth_token_url": "https://id/"}, "SCRAM-SHA-512"),
        (PASSWORD, {"kafka_oauth_token_file": "/t"}, "SCRAM-SHA-512"),
        (PASSWORD, {"kafka_oauth_client_secret": "s"}, "SCRAM-SHA-512"),
        (PASSWORD, {"kafka_oauth_scope": "s"}, "SCRAM-SHA-512"),
        (ENDPOINT, {"kafka_username": "me"}, "OAUTHBEARER"),
        (ENDPOINT, {"kafka_password": "p"}, "OAUTHBEARER"),
        (TOKEN_FILE, {"kafka_username": "me"}, "OAUTHBEARER"),
        (TOKEN_FILE, {"kafka_oauth_client_id": "i"}, "/dev/null"),
        (TOKEN_FILE, {"kafka_oauth_client_secret": "s"}, "/dev/null"),
        (TOKEN_FILE, {"kafka_oauth_scope": "s"}, "/dev/null"),
    ],
)
@pytest.mark.parametrize("by_variable", [False, True])
def test_what_would_be_ignored_is_refused(
    given: dict[str, Any],
    unused: dict[str, str],
    because_of: str,
    by_variable: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    [(name, value)] = unused.items()
    if by_variable:
        monkeypatch.setenv(variable_of(name), value)
        unused = {}
    message = refusal(**given, **unused)
    assert f"{variable_of(name)}) has no effect with {because_of}: change --" in message


@pytest.mark.parametrize("host", ["id.example", "10.0.0.1", "127.evil.example", "localhost.evil"])
def test_a_client_secret_is_not_sent_in_clear(host: str) -> None:
    url = {"kafka_oauth_token_url": f"http://{host}/token"}
    assert "http would send the client secret in clear" in refusal(**ENDPOINT | url)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080"])
def test_a_token_endpoint_on_this_machine_needs_no_tls(host: str) -> None:
    given: dict[str, Any] = ENDPOINT | {"kafka_oauth_token_url": f"http://{host}/token"}
    assert KafkaSettings(**given).client_options()["sasl_oauth_token_provider"]


def test_a_key_that_does_not_fit_or_cannot_be_opened_is_refused(
    certificates: Certificates,
) -> None:
    one, _ = certificates.make("one")
    _, other_key = certificates.make("other")
    encrypted, encrypted_key = certificates.make("encrypted", password="secret")
    for certificate, key in [(one, other_key), (encrypted, encrypted_key), (one, one)]:
        files = {"kafka_certificate_file": certificate, "kafka_key_file": key}
        assert "do not fit together" in refusal(**TLS, **files)
