"""The whole of it: `niyama demo`, on real Kafka, Postgres and SGLang."""

import subprocess
import sys
import time
from pathlib import Path

import psutil

NIYAMA = Path(sys.executable).with_name("niyama")


def descendants_named(marker: str) -> list[psutil.Process]:
    """Processes anywhere on the machine whose command line or folder names `marker`."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(marker in argument for argument in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def test_a_mixed_workload_completes_and_leaves_nothing_running(state_dir: Path) -> None:
    folder = state_dir / "demo"
    folder.mkdir()
    demo = subprocess.run(
        [NIYAMA, "demo", "--jobs", "9", "--seconds", "3"],
        env={"PATH": "/usr/bin:/bin", "HOME": str(Path.home()), "TMPDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert demo.stdout.splitlines()[-1] == "9 jobs: 9 completed, 0 failed, 0 lost"
    for label in ("chat 1.5s/250ms", "batch 60s", "batch 600s"):
        assert label in demo.stdout
    give_up_s = time.monotonic() + 60
    while left := descendants_named(str(folder)):  # what was killed takes a moment to end
        assert time.monotonic() < give_up_s, left
        time.sleep(0.05)
    assert list(folder.glob("niyama-*")) == []
