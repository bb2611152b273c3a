"""What can be asked of a benchmark is told without running it."""

import runpy
import sys
from pathlib import Path

import pytest

from tests.benchmarks.policy import plan_cost

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    "file", ["pipeline.py", "first_token.py", "policy/plan_cost.py", "policy/run.py"]
)
def test_help_is_shown_and_nothing_runs(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [file, "--help"])
    monkeypatch.setenv("COLUMNS", "80")

    with pytest.raises(SystemExit) as ended:
        runpy.run_path(str(BENCHMARKS / file), run_name="__main__")

    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out.lower()


def test_an_unknown_scenario_of_planning_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        plan_cost.main(["arivals"])

    assert ended.value.code == 2
    assert "unknown: arivals; choose from one_by_one, " in capsys.readouterr().err
