"""An engine in a process of its own: its signals, its children, its end.

It verifies n-gram drafts; on the CPU SGLang has no overlap then, and never any mixed batches.
"""

import os
import signal
from pathlib import Path

from tests.support.lonely import lonely_engine, wait_until_gone
from tests.support.runtime import exists
from workers.policy.account import EngineTimes

ARGUMENTS = (
    *("--chunked-prefill-size", "128", "--speculative-algorithm", "NGRAM"),
    *("--speculative-num-draft-tokens", "4"),
)


def test_survives_ctrl_c_reports_its_death_and_leaves_no_orphans(
    tiny_model: Path,
    prompts: dict[str, list[int]],
    stock_outputs: dict[str, list[int]],
) -> None:
    with lonely_engine(tiny_model, ARGUMENTS) as lonely:
        ready, *pids = lonely.said().split()
        assert ready == "ready"
        children = [int(pid) for pid in pids]
        for signal_number in (signal.SIGINT, signal.SIGTERM):
            # A terminal and a service manager signal the group.
            os.killpg(lonely.process.pid, signal_number)
            assert lonely.said() == "interrupted"
        generated = lonely.generated(prompts, chats_after_s=0)
        assert generated["tokens"] == {name: stock_outputs[name] for name in prompts}
        assert generated["tokens_per_step"] > 1  # the policy has heard of drafts that were accepted
        times = {name: EngineTimes(*each) for name, each in generated["times"].items()}
        answered_s = min(each.ended_s for name, each in times.items() if name.startswith("chat"))
        begun_s = max(each.first_token_s or 0 for name, each in times.items() if "batch" in name)
        assert answered_s < begun_s  # it went on between prompts
        assert children
        assert all(exists(pid) for pid in children)
        os.kill(children[-1], signal.SIGKILL)
        assert lonely.said().startswith("dead ")  # reported though no request was running
        lonely.process.kill()
        wait_until_gone(children)
