"""SGLang's metrics are read from the files that its processes write."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
from niyama.telemetry.measurements import Measurements
from niyama.telemetry.metrics import Metrics  # imports Prometheus' client library first
from niyama.telemetry.resource import resource_of
from workers.runtime.engine.metrics import SglangMetrics

exposed = Metrics(Measurements(), resource_of("test", "default"))
exposed.registry.register(SglangMetrics())

from prometheus_client import Counter

Counter("sglang:prompt_tokens", "Prompt tokens", ["model_name"]).labels("m").inc(7)
print(exposed.text(None)[0].decode())
"""


def test_what_sglang_counts_in_the_workers_process_is_shown_beside_ours() -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[5])}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert 'sglang:prompt_tokens_total{model_name="m"} 7.0' in done.stdout
    assert "target_info{" in done.stdout
