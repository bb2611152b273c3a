"""The parameters of a connection to Postgres: which there are, their defaults, what they may be.

Every parameter of libpq either works here or is refused at start with a sentence; none is ignored.
"""

import os
import re
import ssl
from collections.abc import Mapping
from configparser import ConfigParser, Error
from pathlib import Path

BY_ASYNCPG = {
    *("user", "password", "passfile", "dbname", "krbsrvname", "gsslib"),
    *("sslmode", "sslnegotiation", "sslcert", "sslkey", "sslpassword", "sslrootcert", "sslcrl"),
    *("ssl_min_protocol_version", "ssl_max_protocol_version"),
}
"""What asyncpg reads of a URL. It would take all others for settings of the server."""
NUMBERS = {
    *("connect_timeout", "tcp_user_timeout", "keepalives"),
    *("keepalives_idle", "keepalives_interval", "keepalives_count"),
}
READ_HERE = NUMBERS | {
    *("host", "port", "options", "application_name", "fallback_application_name"),
    *("service", "servicefile"),
}
"""What `url` and `connection` handle themselves."""
VALUES = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "sslnegotiation": ("postgres", "direct"),
    "target_session_attrs": ("any", "read-write", "primary"),
    "load_balance_hosts": ("disable", "random"),
    # These are what asyncpg does anyway.
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "client_encoding": ("auto", "utf8", "UTF8", "utf-8", "UTF-8"),
    "sslcertmode": ("allow",),
    "sslcompression": ("0",),
    "sslsni": ("1",),
    "replication": ("false", "off", "no", "0"),
}
"""The values that can be honoured, of parameters that have a few."""
VARIABLES = {
    "host": "PGHOST",
    "port": "PGPORT",
    "service": "PGSERVICE",
    "servicefile": "PGSERVICEFILE",
    "options": "PGOPTIONS",
    "application_name": "PGAPPNAME",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "channel_binding": "PGCHANNELBINDING",
    "gssencmode": "PGGSSENCMODE",
    "hostaddr": "PGHOSTADDR",
    "requirepeer": "PGREQUIREPEER",
    "require_auth": "PGREQUIREAUTH",
    "sslcertmode": "PGSSLCERTMODE",
    "sslsni": "PGSSLSNI",
    # asyncpg reads these itself; here they are checked.
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslcert": "PGSSLCERT",
    "sslkey": "PGSSLKEY",
    "sslrootcert": "PGSSLROOTCERT",
    "sslcrl": "PGSSLCRL",
}
"""What libpq takes from the environment when the URL does not say it."""

ROOT_CERTIFICATES = Path("~/.postgresql/root.crt").expanduser()
"""Where libpq looks when it is not told."""


def with_defaults(given: Mapping[str, str], environment: Mapping[str, str]) -> dict[str, str]:
    """`given`, then what its service says, then the environment."""
    variables = {name: environment.get(variable, "") for name, variable in VARIABLES.items()}
    service = given.get("service", variables["service"])
    in_service: dict[str, str] = {}
    if service:
        in_service = _service(service, given.get("servicefile", variables["servicefile"]))
    together = {**variables, **in_service, **given}
    return {name: value for name, value in together.items() if value}


def _service(name: str, file: str) -> dict[str, str]:
    path = Path(file or "~/.pg_service.conf").expanduser()
    parser = ConfigParser(interpolation=None)
    try:
        parser.read(path)
    except (OSError, Error, UnicodeDecodeError) as error:
        raise ValueError(f"the service file {path} cannot be read: {error}") from error
    if name not in parser:
        raise ValueError(f"the service {name!r} is not in {path}")
    return dict(parser[name])


def check(parameters: Mapping[str, str]) -> None:
    """Raises ValueError for what would be ignored, or would fail at every connection."""
    for name, value in parameters.items():
        if name not in BY_ASYNCPG | READ_HERE | VALUES.keys():
            raise ValueError(f"the parameter {name} is not supported: remove it from the URL")
        if name in VALUES and value not in VALUES[name]:
            raise ValueError(f"{name}={value} is not supported; use {' or '.join(VALUES[name])}")
        if name in NUMBERS and not re.fullmatch(r"-?\d{1,9}", value):
            raise ValueError(f"{name} is a whole number, not {value!r}")
    mode = parameters.get("sslmode", "prefer")
    if parameters.get("sslrootcert") == "system" and mode != "verify-full":
        raise ValueError("sslrootcert=system needs sslmode=verify-full")
    if parameters.get("sslnegotiation") == "direct" and mode in ("disable", "allow", "prefer"):
        raise ValueError("sslnegotiation=direct needs sslmode=require, verify-ca or verify-full")
    trusts = "sslrootcert" in parameters or ROOT_CERTIFICATES.exists()
    if mode.startswith("verify") and not trusts:
        raise ValueError(f"sslmode={mode} needs sslrootcert, a file of certificates, or system")
    _check_files(parameters)


def _check_files(parameters: Mapping[str, str]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    password = parameters.get("sslpassword", "")
    for name in ("passfile", "sslcert", "sslkey", "sslrootcert", "sslcrl"):
        path = parameters.get(name, "system")
        if path == "system":
            continue
        if not os.access(path, os.R_OK):
            raise ValueError(f"{name}: the file {path} does not exist, or cannot be read")
        try:
            if name in ("sslrootcert", "sslcrl"):
                context.load_verify_locations(path)
            elif name == "sslcert":
                context.load_cert_chain(path, parameters.get("sslkey"), lambda: password)
        except ssl.SSLError as error:
            raise ValueError(f"{name}: the file {path} cannot be used: {error}") from error
