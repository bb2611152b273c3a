"""One short run of a fixed seed: whatever is broken meanwhile, no acknowledged job is."""

import json
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
OPTIONS = "--seed 562 --minutes 0.6 --jobs 300 --gap-s 1.6 --settle-s 240"
TIMEOUT_S = 900


def test_no_acknowledged_job_is_lost_stuck_wrong_or_answered_other_than_once(
    tmp_path: Path,
) -> None:
    report = tmp_path / "report.json"
    run = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *OPTIONS.split(), "--report", str(report)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert report.exists(), run.stdout + run.stderr
    found = json.loads(report.read_text())
    assert found["jobs"] >= 250
    assert found["faults_injected"] >= 5
    assert found["hostile_records"] >= found["refused_records"] > 0
    assert {"completed", "cancelled", "expired"} <= found["statuses"].keys()
    assert found["looks_at_outcomes"] > 5
    # How many jobs ran twice depends on the moments of the faults, and these on the machine.
    zeros = found["must_be_zero"]
    assert zeros == dict.fromkeys(zeros, 0), run.stdout
