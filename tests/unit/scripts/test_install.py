"""`scripts/install.sh` where something is missing: it says what, and how to get it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[3] / "scripts" / "install.sh"


class Machine:
    """A PATH of its own and an empty cache."""

    def __init__(self, folder: Path) -> None:
        self._bin = folder / "bin"
        self._bin.mkdir()
        self.cache = folder / "cache"
        for tool in ("bash", "cut", "dirname", "mkdir", "rm"):
            (self._bin / tool).symlink_to(f"/bin/{tool}")
        self.program("id", "echo 1000")

    def program(self, name: str, body: str) -> Path:
        path = self._bin / name
        path.write_text(f"#!/bin/bash\n{body}\n")
        path.chmod(0o755)
        return path

    def python(self, name: str, *, venv: bool) -> None:
        """A Python of this version, with or without its venv module."""
        lacking = "" if venv else "*ensurepip*) exit 1;;"
        answers = f'case "$2" in *sys.executable*) echo "$0"; exit;; {lacking} esac'
        self.program(name, f'{answers}\nexec {sys.executable} "$@"')

    def find_uv(self) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            ["/bin/bash", SCRIPT, "--print-uv"],
            env={**os.environ, "PATH": str(self._bin), "XDG_CACHE_HOME": str(self.cache)},
            capture_output=True,
            text=True,
            check=False,
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_python_says_what_to_install(machine: Machine) -> None:
    done = machine.find_uv()
    assert done.returncode == 1
    assert "no Python 3.11, 3.12 or 3.13 found" in done.stderr
    assert "sudo apt-get install python3" in done.stderr


def test_a_python_that_is_too_old_is_passed_over(machine: Machine) -> None:
    machine.program("python3", "exit 1")  # what its version check says
    machine.python("python3.12", venv=True)
    machine.program("uv", "echo uv 0.13.8")
    assert machine.find_uv().returncode == 0


def test_a_uv_of_the_right_version_is_used(machine: Machine) -> None:
    machine.python("python3", venv=True)
    uv = machine.program("uv", "echo uv 0.13.8")
    assert machine.find_uv().stdout.strip() == str(uv)


def test_for_debians_python_without_venv_the_package_is_named(machine: Machine) -> None:
    machine.python("python3", venv=False)
    machine.program("uv", "echo uv 0.1.0")  # too old to count
    done = machine.find_uv()
    assert done.returncode == 1
    assert "sudo apt-get install python3-venv" in done.stderr
    assert done.stdout == ""


def test_root_gets_that_package_after_one_line(machine: Machine) -> None:
    machine.python("python3", venv=False)
    machine.program("id", "echo 0")
    machine.program("apt-get", 'echo "apt $*" >&2; [ "$1" = update ] || exit 100')
    done = machine.find_uv()
    assert done.returncode != 0
    assert "has no venv module: apt-get install python3-venv\napt update" in done.stderr
    assert "apt install -qq -y --no-install-recommends python3-venv" in done.stderr


def test_a_cache_that_cannot_be_written_is_named(machine: Machine) -> None:
    machine.python("python3", venv=True)
    machine.cache.touch()
    done = machine.find_uv()
    assert done.returncode != 0
    assert f"cannot write {machine.cache}/niyama (XDG_CACHE_HOME" in done.stderr
