"""Finding Java and Maven, and what is said when they are missing."""

import os
from pathlib import Path

import pytest

from niyama.local import java as java_module
from niyama.local.errors import LocalStackError
from niyama.local.java import java, java_version, maven


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without Java, Maven and apt, used by someone who is not root."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("JAVA_HOME", raising=False)
    monkeypatch.setattr(java_module, "JVM_FOLDERS", tmp_path / "jvm")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def program(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return path


def fake_java(path: Path, version: str) -> Path:
    return program(path, f"echo 'openjdk version \"{version}\" 2025-01-01' >&2")


@pytest.mark.parametrize(("shown", "version"), [("17.0.15", 17), ("21", 21), ("1.8.0_402", 8)])
def test_reads_the_feature_version(tmp_path: Path, shown: str, version: int) -> None:
    assert java_version(fake_java(tmp_path / "java", shown)) == version


def test_takes_the_java_on_path(tmp_path: Path) -> None:
    expected = fake_java(tmp_path / "bin" / "java", "17.0.1")
    assert java() == expected


def test_prefers_java_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_java(tmp_path / "bin" / "java", "17.0.1")
    expected = fake_java(tmp_path / "home" / "bin" / "java", "21.0.1")
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    assert java() == expected


def test_passes_over_a_java_that_is_too_old(tmp_path: Path) -> None:
    fake_java(tmp_path / "bin" / "java", "11.0.20")
    expected = fake_java(tmp_path / "jvm" / "java-17" / "bin" / "java", "17.0.1")
    assert java() == expected


def test_an_old_java_alone_is_named_with_its_version(tmp_path: Path) -> None:
    old = fake_java(tmp_path / "bin" / "java", "11.0.20")
    with pytest.raises(LocalStackError, match="Java 17 or newer") as raised:
        java()
    assert f"{old} is version 11" in str(raised.value)


def test_without_apt_says_what_to_install_and_which_setting_helps() -> None:
    with pytest.raises(
        LocalStackError, match="install Java 17 or newer, or set NIYAMA_KAFKA_BOOTSTRAP"
    ):
        java()


def test_on_debian_says_the_exact_command(tmp_path: Path) -> None:
    program(tmp_path / "bin" / "apt-get", "exit 0")
    with pytest.raises(LocalStackError, match="sudo apt-get install openjdk-17-jre-headless"):
        java()
    with pytest.raises(LocalStackError, match=r"sudo apt-get install maven.*KAFKA_BOOTSTRAP"):
        maven()


def test_root_on_debian_gets_it_installed_after_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    installed = tmp_path / "bin" / "mvn"
    program(
        tmp_path / "bin" / "apt-get",
        f'echo "$@" >> {tmp_path}/calls\n'
        f'if [ "$1" = install ]; then : > {installed}; /bin/chmod 755 {installed}; fi',
    )
    assert maven() == str(installed)
    assert (tmp_path / "calls").read_text().splitlines() == [
        "update -q",
        "install -q -y --no-install-recommends maven",
    ]
    assert caplog.messages == ["no Maven here: running apt-get install maven"]


def test_takes_the_next_java_when_a_release_has_no_such_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    newer = fake_java(tmp_path / "newer", "21.0.2")
    target = tmp_path / "bin" / "java"
    program(
        tmp_path / "bin" / "apt-get",
        f'case "$*" in *openjdk-17*) echo "no such package"; exit 100;;'
        f" *openjdk-21*) /bin/cp {newer} {target};; esac",
    )
    assert java() == target


def test_a_failed_installation_shows_what_apt_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    program(tmp_path / "bin" / "apt-get", "[ $1 = update ] || { echo no network; exit 100; }")
    with pytest.raises(LocalStackError, match="no network") as raised:
        maven()
    assert "NIYAMA_KAFKA_BOOTSTRAP" in str(raised.value)
