"""`scripts/test-tools.sh`: what the tests need and this machine lacks is installed, or named."""

import os
import subprocess
from pathlib import Path

SCRIPT = Path(__file__).parents[3] / "scripts" / "test-tools.sh"
TOOLS = ("kcat", "openssl", "javac")


def machine(folder: Path, *tools: str, user_id: int = 1000) -> "subprocess.CompletedProcess[str]":
    """Run the script where only these tools are."""
    programs = dict.fromkeys(tools, "") | {"id": f"echo {user_id}", "apt-get": 'echo "$*" >&2'}
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n")
        (folder / name).chmod(0o755)
    return subprocess.run(
        ["/bin/bash", SCRIPT],
        env={**os.environ, "PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_is_done_where_all_of_them_are(tmp_path: Path) -> None:
    done = machine(tmp_path, *TOOLS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_user_is_told_what_to_install(tmp_path: Path) -> None:
    done = machine(tmp_path, "openssl")
    assert done.returncode == 1
    assert "sudo apt-get install kcat default-jdk-headless" in done.stderr


def test_root_gets_what_is_missing(tmp_path: Path) -> None:
    done = machine(tmp_path, "openssl", "javac", user_id=0)
    assert done.returncode == 0
    assert "install -qq -y --no-install-recommends kcat" in done.stderr
