"""Tensor parallelism on CPU: two ranks, each with a scheduler of its own, that decide alike."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.runtime import exists

HERE = Path(__file__).parent
ENVIRONMENT = {
    "SGLANG_CPU_OMP_THREADS_BIND": "0|1",
    "SGLANG_ENABLE_RANK_CONSENSUS_CHECKER": "1",
    "SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1",
    "NIYAMA_HANG_LIMIT_S": "8",
}
PATIENCE_S = 300


@contextmanager
def two_ranks(tiny_model: Path) -> "Iterator[subprocess.Popen[str]]":
    arguments = ["--tp-size", "2", "--chunked-prefill-size", "128"]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(HERE / "lonely.py"), str(tiny_model), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | ENVIRONMENT,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def test_two_ranks_decide_alike_and_one_that_freezes_is_the_death_of_both(
    tiny_model: Path, prompts: dict[str, list[int]]
) -> None:
    """SGLang's own checker compares every plan of the two, and ends the engine at a difference."""
    few = {name: ids[:300] for name, ids in prompts.items() if name[-1] in "01"}
    few["late"] = prompts["batch-2"]
    with two_ranks(tiny_model) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ready, *children = process.stdout.readline().split()
        assert ready == "ready"
        process.stdin.write(json.dumps(few) + "\n")
        process.stdin.flush()
        generated = json.loads(process.stdout.readline())["tokens"]
        expected = dict.fromkeys(few, 12) | {"late": 0}  # that one has expired
        assert {name: len(ids) for name, ids in generated.items()} == expected

        os.kill(int(children[1]), signal.SIGSTOP)  # nothing runs: an idle engine is watched, too
        assert process.stdout.readline() == "dead SGLang has shown no sign of life for 8 s\n"
        process.communicate(timeout=PATIENCE_S)
        assert process.returncode == 0
        assert not any(exists(int(pid)) for pid in children), "a frozen process is killed as well"
