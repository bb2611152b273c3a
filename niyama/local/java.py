"""Java and Maven on this machine: Kafka's broker needs the first, fetching it the second."""

import logging
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

from niyama.local.errors import LocalStackError

log = logging.getLogger(__name__)

JAVA_VERSION = 17
"""The oldest Java that this Kafka runs on."""
JAVA_PACKAGES = ("openjdk-17-jre-headless", "openjdk-21-jre-headless")
JVM_FOLDERS = Path("/usr/lib/jvm")
OTHER_BROKER = "or set NIYAMA_KAFKA_BOOTSTRAP to a Kafka you already have"


def java() -> Path:
    """A Java that runs Kafka: JAVA_HOME's, PATH's, or the newest under /usr/lib/jvm.

    Installs one with apt where it may; elsewhere raises LocalStackError, saying what to install.
    """
    if found := _find_java():
        return found
    _apt_install(f"Java {JAVA_VERSION} or newer", JAVA_PACKAGES, found=_versions())
    if found := _find_java():
        return found
    raise LocalStackError(f"apt installed Java, but no Java 17 or newer can be run; {OTHER_BROKER}")


def maven() -> str:
    """The `mvn` command. Installs it or raises, as `java` does."""
    if shutil.which("mvn") is None:
        _apt_install("Maven", ("maven",))
    found = shutil.which("mvn")
    if found is None:
        raise LocalStackError(f"apt installed Maven, but mvn is not on PATH; {OTHER_BROKER}")
    return found


def java_version(executable: Path) -> int | None:
    """Its feature version (17), or None when it does not run."""
    try:
        shown = subprocess.run(
            [executable, "-version"], capture_output=True, text=True, timeout=30, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', shown.stderr)
    return int(match[1]) if match else None


def _find_java() -> Path | None:
    return next((path for path in _candidates() if _is_new_enough(path)), None)


def _is_new_enough(executable: Path) -> bool:
    version = java_version(executable)
    return version is not None and version >= JAVA_VERSION


def _candidates() -> Iterator[Path]:
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home) / "bin" / "java"
    if on_path := shutil.which("java"):
        yield Path(on_path)
    yield from sorted(JVM_FOLDERS.glob("*/bin/java"), reverse=True)


def _versions() -> str:
    """The versions found, to explain why none of them is new enough."""
    found = {path: java_version(path) for path in _candidates()}
    return "".join(
        f" ({path} is version {version or 'unknown'})" for path, version in found.items()
    )


def _apt_install(what: str, packages: tuple[str, ...], *, found: str = "") -> None:
    """Install the first of `packages` that this release has, if this is root on Debian.

    Raises LocalStackError with the command to run where that is not possible or fails.
    """
    apt = shutil.which("apt-get")
    if apt is None or os.geteuid() != 0:
        command = f"run: sudo apt-get install {packages[0]}," if apt else f"install {what},"
        raise LocalStackError(f"the local Kafka needs {what}{found}: {command} {OTHER_BROKER}")
    _run_apt(apt, "update", "-q")
    failures = []
    for package in packages:
        log.warning("no %s here: running apt-get install %s", what, package)
        try:
            _run_apt(apt, "install", "-q", "-y", "--no-install-recommends", package)
            return
        except LocalStackError as error:
            failures.append(str(error))
    raise LocalStackError("\n".join([*failures, f"install {what} yourself, {OTHER_BROKER}"]))


def _run_apt(apt: str, *arguments: str) -> None:
    done = subprocess.run(
        [apt, *arguments],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        shown = "\n".join((done.stdout + done.stderr).splitlines()[-8:])
        raise LocalStackError(f"apt-get {' '.join(arguments)} failed:\n{shown}")
