"""An engine in a process of its own: its signals, its children, its end.

It verifies n-gram drafts; on the CPU SGLang has no overlap then, and never any mixed batches.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.runtime import exists

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def lonely(tiny_model: Path) -> Iterator[subprocess.Popen[str]]:
    arguments = ["--chunked-prefill-size", "128", "--speculative-algorithm", "NGRAM"]
    arguments += ["--speculative-num-draft-tokens", "4"]
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(HERE / "lonely.py"), str(tiny_model), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    process.kill()
    process.communicate()


def said(process: subprocess.Popen[str]) -> list[str]:
    assert process.stdout is not None
    return process.stdout.readline().split(maxsplit=2)


def test_survives_ctrl_c_reports_its_death_and_leaves_no_orphans(
    lonely: subprocess.Popen[str],
    prompts: dict[str, list[int]],
    stock_outputs: dict[str, list[int]],
) -> None:
    ready, *rest = said(lonely)
    assert ready == "ready"
    children = [int(pid) for pid in " ".join(rest).split()]
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        os.killpg(lonely.pid, signal_number)  # a terminal and a service manager signal the group
        assert said(lonely) == ["interrupted"]
    assert lonely.stdin is not None
    assert lonely.stdout is not None
    lonely.stdin.write(json.dumps(prompts) + "\n")
    lonely.stdin.flush()
    generated = json.loads(lonely.stdout.readline())
    assert generated["tokens"] == {name: stock_outputs[name] for name in prompts}
    assert generated["tokens_per_step"] > 1  # the policy has heard of drafts that were accepted
    order = generated["order"]
    begun, answered = (
        [order.index(f"{which} of {name}") for name in prompts if name.startswith(kind)]
        for which, kind in (("first", "batch"), ("last", "chat"))
    )
    assert min(answered) < max(begun)  # it went on between prompts
    assert children
    assert all(exists(pid) for pid in children)
    os.kill(children[-1], signal.SIGKILL)
    assert said(lonely)[0] == "dead"  # reported though no request was running
    lonely.kill()
    end_s = time.monotonic() + 10
    while any(exists(pid) for pid in children):
        assert time.monotonic() < end_s, "SGLang's processes outlived the worker"
        time.sleep(0.05)
