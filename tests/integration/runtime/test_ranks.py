"""Tensor parallelism on CPU: two ranks, each with a scheduler of its own, that decide alike."""

import os
import signal
from pathlib import Path

from tests.support.lonely import PATIENCE_S, lonely_engine, wait_until_gone

ENVIRONMENT = {
    "SGLANG_CPU_OMP_THREADS_BIND": "0|1",
    "SGLANG_ENABLE_RANK_CONSENSUS_CHECKER": "1",
    "SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY": "1",
    "NIYAMA_HANG_LIMIT_S": "4",
}


def test_two_ranks_decide_alike_and_one_that_freezes_is_the_death_of_both(
    tiny_model: Path, prompts: dict[str, list[int]]
) -> None:
    """SGLang's own checker compares every plan of the two, and ends the engine at a difference."""
    few = {name: ids[:300] for name, ids in prompts.items() if name[-1] in "01"}
    few["late"] = prompts["batch-2"]
    arguments = ("--tp-size", "2", "--chunked-prefill-size", "128")
    with lonely_engine(tiny_model, arguments, ENVIRONMENT) as lonely:
        ready, *pids = lonely.said().split()
        assert ready == "ready"
        children = [int(pid) for pid in pids]
        generated = lonely.generated(few, chats_after_s=0.3)["tokens"]
        expected = dict.fromkeys(few, 12) | {"late": 0}  # that one has expired
        assert {name: len(ids) for name, ids in generated.items()} == expected

        os.kill(children[1], signal.SIGSTOP)  # nothing runs: an idle engine is watched, too
        assert lonely.said() == "dead SGLang has shown no sign of life for 4 s"
        lonely.process.communicate(timeout=PATIENCE_S)
        assert lonely.process.returncode == 0
        wait_until_gone(children)  # what is frozen is killed, too
