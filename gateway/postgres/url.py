"""The URL of the ledger's Postgres, which operators copy from their provider, as libpq reads it."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, unquote

from gateway.postgres.parameters import BY_ASYNCPG, check, with_defaults

# An @ after the hosts would be that of a password with a slash, of which the rest would be shown.
SPELLING = re.compile(
    r"postgres(?:ql)?(?:\+\w+)?://"
    r"(?:(?P<user>[^:/?]*)(?::(?P<password>[^/?]*))?@)?"
    r"(?P<hosts>[^/?@]*)(?:/(?P<dbname>[^?@]*))?(?:\?(?P<query>.*))?"
)
HOST = re.compile(r"(?:\[(?P<ipv6>[^\]]*)\]|(?P<host>[^:\[\]]*))(?::(?P<port>\d*))?")
SECRETS = ("password", "sslpassword")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server may be. None: asyncpg's defaults, the usual sockets and then localhost."""

    host: str | None
    """A name, an address, or the folder of a Unix socket."""
    port: int | None


@dataclass(frozen=True, slots=True)
class PostgresUrl:
    """How to reach Postgres."""

    shown: str
    """The URL as it may be printed: without passwords, and without a driver."""
    addresses: tuple[Address, ...]
    """At least one. They are tried in this order, unless `balances`."""
    parameters: Mapping[str, str]
    """Everything else, by libpq's names."""

    @classmethod
    def parse(cls, url: str, environment: Mapping[str, str] = os.environ) -> Self:
        """Raises ValueError with a sentence that repeats no password."""
        found = SPELLING.fullmatch(url.strip())
        if found is None:
            raise ValueError(
                "give a Postgres URL, such as postgresql://user@host:5432/niyama, in which special "
                "characters of names and passwords are percent-encoded"
            )
        given = _given(found)
        parameters = with_defaults(given, environment)
        check(parameters)
        addresses = _addresses(parameters.pop("host", ""), parameters.pop("port", ""))
        if len(addresses) > 1:
            # A standby would refuse every write.
            parameters.setdefault("target_session_attrs", "read-write")
        return cls(_shown(found, given), addresses, parameters)

    @property
    def asyncpg_dsn(self) -> str:
        """What asyncpg itself reads of the URL: all but where the server is."""
        known = {name: self.parameters[name] for name in self.parameters.keys() & BY_ASYNCPG}
        if self.uses_system_certificates:
            del known["sslrootcert"]
        query = "&".join(f"{name}={quote(value, safe='')}" for name, value in known.items())
        return f"postgresql://?{query}" if query else "postgresql://"

    @property
    def uses_system_certificates(self) -> bool:
        """Whether the server's certificate is checked against those that this machine trusts."""
        return self.parameters.get("sslrootcert") == "system"

    @property
    def balances(self) -> bool:
        """Whether to start at any of the addresses, and not always at the first."""
        return self.parameters.get("load_balance_hosts") == "random"

    @property
    def session_options(self) -> frozenset[str]:
        """Settings of the session that `options` gives a value."""
        found = re.findall(r"(?:-c\s*|--)([\w.-]+)=", self.parameters.get("options", ""))
        return frozenset(name.replace("-", "_") for name in found)

    def number(self, name: str) -> int | None:
        """A numeric parameter. None, libpq's 0 and negative values: use the default."""
        value = int(self.parameters.get(name, 0))
        return value if value > 0 else None


def _given(found: re.Match[str]) -> dict[str, str]:
    """All that the URL says, by libpq's names. Its query goes before its other parts."""
    names = ("user", "password", "dbname")
    parts = {name: unquote(found[name]) for name in names if found[name]}
    if found["hosts"]:
        parts |= _hosts_and_ports(found["hosts"])
    return parts | _query(found["query"] or "")


def _query(text: str) -> dict[str, str]:
    """The parameters after the question mark. Unlike in a form, a plus sign is a plus sign."""
    given = {}
    for part in filter(None, text.split("&")):
        name, equals, value = part.partition("=")
        if not equals:
            raise ValueError("a parameter after the question mark of the URL has no value")
        given[unquote(name)] = unquote(value)
    if "ssl" in given:  # JDBC's spelling, which libpq takes too, and SQLAlchemy's
        mode = given.pop("ssl")
        given.setdefault("sslmode", "require" if mode == "true" else mode)
    if "database" in given:
        given.setdefault("dbname", given.pop("database"))
    return {name: value for name, value in given.items() if value}


def _hosts_and_ports(text: str) -> dict[str, str]:
    """The parameters `host` and `port` for what is between @ and / of a URL."""
    found = [each for part in text.split(",") if (each := HOST.fullmatch(part))]
    if len(found) <= text.count(","):
        raise ValueError(
            "the URL's hosts are not host or host:port, separated by commas: are special "
            "characters of the password percent-encoded?"
        )
    hosts = ",".join(unquote(each["ipv6"] or each["host"] or "") for each in found)
    ports = ",".join(each["port"] or "" for each in found)
    together = {"host": hosts, "port": ports}
    return {name: value for name, value in together.items() if value.strip(",")}


def _addresses(hosts: str, ports: str) -> tuple[Address, ...]:
    host_list, port_list = hosts.split(","), ports.split(",")
    if len(port_list) == 1:
        port_list *= len(host_list)
    if len(port_list) != len(host_list):
        raise ValueError(f"{len(host_list)} hosts do not match {len(port_list)} ports")
    return tuple(
        Address(host or None, _port(port)) for host, port in zip(host_list, port_list, strict=True)
    )


def _port(text: str) -> int | None:
    if not text:
        return None
    if not text.isdecimal() or not 0 < int(text) < 2**16:
        raise ValueError(f"{text!r} is not a port")
    return int(text)


def _shown(found: re.Match[str], given: Mapping[str, str]) -> str:
    user = found["user"] or ""
    hidden = ":***" if found["password"] else ""
    at = "@" if user or hidden else ""
    path = f"/{found['dbname']}" if found["dbname"] is not None else ""
    in_query = {part.partition("=")[0] for part in (found["query"] or "").split("&")}
    query = "&".join(
        f"{name}={'***' if name in SECRETS else value}"
        for name, value in given.items()
        if name in in_query or (name == "sslmode" and "ssl" in in_query)
    )
    return f"postgresql://{user}{hidden}{at}{found['hosts']}{path}{'?' if query else ''}{query}"
