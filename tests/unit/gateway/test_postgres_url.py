"""Every way to spell the URL of a Postgres: what is understood, and what is refused."""

from pathlib import Path

import pytest

from gateway.postgres.url import Address, PostgresUrl


def parse(url: str, **environment: str) -> PostgresUrl:
    return PostgresUrl.parse(url, environment)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_every_scheme_is_the_same(scheme: str) -> None:
    url = parse(f"{scheme}://u:p@h:1/d")

    assert url.addresses == (Address("h", 1),)
    assert url.parameters == {"user": "u", "password": "p", "dbname": "d"}
    assert url.shown == "postgresql://u:***@h:1/d"


@pytest.mark.parametrize(
    ("given", "addresses"),
    [
        ("postgresql://h/d", [Address("h", None)]),
        ("postgresql:///d", [Address(None, None)]),
        ("postgresql://", [Address(None, None)]),
        ("postgresql://h1:1,h2:2/d", [Address("h1", 1), Address("h2", 2)]),
        ("postgresql://h1,h2:2/d", [Address("h1", None), Address("h2", 2)]),
        ("postgresql://h1,h2/d?port=7", [Address("h1", 7), Address("h2", 7)]),
        ("postgresql:///d?host=h1,h2&port=1,2", [Address("h1", 1), Address("h2", 2)]),
        ("postgresql://[2001:db8::1]:1,h2/d", [Address("2001:db8::1", 1), Address("h2", None)]),
        ("postgresql:///d?host=/run/postgresql", [Address("/run/postgresql", None)]),
        ("postgresql://%2Frun%2Fpostgresql/d", [Address("/run/postgresql", None)]),
    ],
)
def test_servers_are_named_in_many_ways(given: str, addresses: list[Address]) -> None:
    assert list(parse(given).addresses) == addresses


@pytest.mark.parametrize(
    ("given", "password"),
    [
        ("postgresql://u:p%40ss%2Fw%3Frd@h/d", "p@ss/w?rd"),
        ("postgresql://u:p@ss#+@h/d", "p@ss#+"),
        ("postgresql://h/d?user=u&password=a%20b+c", "a b+c"),
        ("postgresql://me@server:secret@h/d", "secret"),
    ],
)
def test_passwords_keep_their_special_characters(given: str, password: str) -> None:
    url = parse(given)

    assert url.parameters["password"] == password
    assert [each.host for each in url.addresses] == ["h"]
    assert password not in url.shown


def test_asyncpg_reads_from_us_what_the_url_says() -> None:
    """Its own parser takes + for a blank and does not know half of these parameters."""
    url = parse(
        "postgresql://u:a+b%20c@h/d?sslmode=require&connect_timeout=3&application_name=x"
        "&keepalives_idle=5&channel_binding=prefer&target_session_attrs=read-write"
    )

    assert sorted(url.asyncpg_dsn.partition("?")[2].split("&")) == [
        "dbname=d",
        "password=a%2Bb%20c",
        "sslmode=require",
        "user=u",
    ]
    assert url.number("connect_timeout") == 3
    assert url.number("tcp_user_timeout") is None


@pytest.mark.parametrize("spelled", ["ssl=true", "ssl=require", "sslmode=require"])
def test_tls_can_be_asked_for_as_jdbc_and_sqlalchemy_do(spelled: str) -> None:
    assert parse(f"postgresql://h/d?{spelled}").parameters["sslmode"] == "require"


def test_several_servers_need_one_that_can_be_written_to() -> None:
    def wanted(url: str) -> str | None:
        return parse(url).parameters.get("target_session_attrs")

    assert wanted("postgresql://h1,h2/d") == "read-write"
    assert wanted("postgresql://h1,h2/d?target_session_attrs=primary") == "primary"
    assert wanted("postgresql://h1/d") is None


def test_the_environment_fills_what_the_url_leaves_out() -> None:
    environment = {
        "PGHOST": "env1,env2",
        "PGPORT": "5",
        "PGAPPNAME": "shown",
        "PGCONNECT_TIMEOUT": "9",
    }
    from_environment = parse("postgresql:///d", **environment)
    from_url = parse("postgresql://h:6/d?connect_timeout=2", **environment)

    assert from_environment.addresses == (Address("env1", 5), Address("env2", 5))
    assert from_environment.number("connect_timeout") == 9
    assert from_url.addresses == (Address("h", 6),)
    assert from_url.number("connect_timeout") == 2
    assert from_url.parameters["application_name"] == "shown"


def test_a_service_is_looked_up_in_its_file(tmp_path: Path) -> None:
    file = tmp_path / "services"
    file.write_text("[ledger]\nhost=h1,h2\nport=1,2\ndbname=of-service\npassword=a%b\n")

    url = parse("postgresql:///mine?service=ledger", PGSERVICEFILE=str(file), PGHOST="env")

    assert url.addresses == (Address("h1", 1), Address("h2", 2))
    assert (url.parameters["dbname"], url.parameters["password"]) == ("mine", "a%b")
    with pytest.raises(ValueError, match="the service 'other' is not in"):
        parse("postgresql://?service=other", PGSERVICEFILE=str(file))


def test_options_name_the_settings_that_they_set() -> None:
    url = parse("postgresql://h/d?options=-c%20lock_timeout%3D5s%20--statement-timeout%3D9")

    assert url.session_options == {"lock_timeout", "statement_timeout"}


def test_several_servers_can_be_balanced() -> None:
    assert parse("postgresql://h1,h2/d?load_balance_hosts=random").balances
    assert not parse("postgresql://h1,h2/d").balances


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("postgresql://h/d?channel_binding=require", "channel_binding=require is not supported"),
        ("postgresql://h/d?target_session_attrs=standby", "use any or read-write or primary"),
        ("postgresql://h/d?gssencmode=require", "gssencmode=require is not supported"),
        ("postgresql://h/d?hostaddr=10.0.0.1", "parameter hostaddr is not supported"),
        ("postgresql://h/d?pool_size=3", "parameter pool_size is not supported"),
        ("postgresql://h/d?sslmode=on", "sslmode=on is not supported; use disable or allow"),
        ("postgresql://h/d?connect_timeout=soon", "connect_timeout is a whole number"),
        ("postgresql://h/d?sslmode", "has no value"),
        ("postgresql://h/d?sslmode=verify-full", "needs sslrootcert"),
        ("postgresql://h/d?sslrootcert=system", "needs sslmode=verify-full"),
        ("postgresql://h/d?sslnegotiation=direct", "needs sslmode=require"),
        ("postgresql://h/d?sslmode=require&sslcert=/none", "the file /none does not exist"),
        ("postgresql://h:0/d", "'0' is not a port"),
        ("postgresql://h1,h2,h3/d?port=1,2", "3 hosts do not match 2 ports"),
        ("postgresql://u:se/cret@h/d", "percent-encoded"),
        ("postgresql://u:12/cret@h/d", "percent-encoded"),
        ("postgresql://u:12?cret@h/d", "has no value"),
    ],
)
def test_what_cannot_be_honoured_is_refused(
    given: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("gateway.postgres.parameters.ROOT_CERTIFICATES", tmp_path / "none")

    with pytest.raises(ValueError, match=words) as caught:
        parse(given)

    assert "cret" not in str(caught.value)


def test_the_variables_of_libpq_are_held_to_the_same_rules() -> None:
    with pytest.raises(ValueError, match="channel_binding=require"):
        parse("postgresql://h/d", PGCHANNELBINDING="require")


def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "root.crt"
    file.write_text("nothing of the kind")

    with pytest.raises(ValueError, match=r"sslrootcert: the file .*root\.crt cannot be used"):
        parse(f"postgresql://h/d?sslmode=verify-ca&sslrootcert={file}")
