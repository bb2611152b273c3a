"""One short run of a fixed seed: whatever is broken meanwhile, no acknowledged job is."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
OPTIONS = (
    "--seed",
    "9",
    "--minutes",
    "0.6",
    "--jobs",
    "300",
    "--gap-s",
    "2",
    "--settle-s",
    "60",
)
ZERO = ("lost", "stuck", "wrong", "answered twice", "reply missing")


def test_no_acknowledged_job_is_lost_stuck_wrong_or_answered_other_than_once(
    tmp_path: Path,
) -> None:
    report = tmp_path / "report.json"
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *OPTIONS, "--report", str(report)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert report.exists(), run.stdout + run.stderr
    found = json.loads(report.read_text())
    assert found["jobs"] >= 250
    assert found["faults_injected"] >= 5
    counts = {name: found["must_be_zero"][name] for name in ZERO}
    assert counts == dict.fromkeys(ZERO, 0), run.stdout
