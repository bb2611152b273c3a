"""Tensor parallelism on CPU: two ranks, each with a scheduler of its own, that decide alike."""

import json
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def test_two_ranks_decide_alike(tiny_model: Path, prompts: dict[str, list[int]]) -> None:
    """SGLang's own checker compares every plan of the two, and ends the engine at a difference."""
    environment = os.environ | {
        "SGLANG_CPU_OMP_THREADS_BIND": "0|1",
        "SGLANG_ENABLE_RANK_CONSENSUS_CHECKER": "1",
        "SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1",
    }
    arguments = ["--tp-size", "2", "--chunked-prefill-size", "128"]
    few = {name: ids[:300] for name, ids in prompts.items() if name[-1] in "01"}
    few["late"] = prompts["batch-2"]
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(HERE / "lonely.py"), str(tiny_model), *arguments],
        input=json.dumps(few) + "\n",
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = run.stdout.splitlines()
    assert said[0].startswith("ready"), run.stderr[-3000:]
    generated = json.loads(said[1])
    expected = dict.fromkeys(few, 12) | {"late": 0}  # that one has expired
    assert {name: len(ids) for name, ids in generated.items()} == expected
