"""The comparison of schedulers on a GPU: an 8B shape with random weights."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "scheduler.py"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no GPU")
def test_the_benchmark_runs_on_a_gpu_and_reports_its_latency_model() -> None:
    run = subprocess.run(
        [sys.executable, str(BENCHMARK), "--gpu", "--run-s", "5"],
        capture_output=True,
        text=True,
        timeout=1200,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    assert "1.5 times capacity" in run.stdout
    assert "Latency model" in run.stdout
