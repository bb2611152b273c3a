"""What half an hour on a GPU is to answer, in stages that each leave their result behind.

    python -m tests.benchmarks.gpu                           # what has no result yet, in order
    python -m tests.benchmarks.gpu --stage iterations        # one stage, again
    python -m tests.benchmarks.gpu --device cpu --rehearse   # all of it, small, without a GPU

Each stage ends within its limit (ten minutes at most) with what it has. `summary.md` in the folder
is written again after each. The model is Llama-3-8B's shape with random weights.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tests.benchmarks.gpu.summary import is_complete, write_summary

STAGES = ("start-up", "iterations", "schedulers", "plans")
LIMIT_S = 480.0
"""After it a stage begins nothing new; what runs then still ends."""
GRACE_S = 90.0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    failed = []
    for stage in options.stage or STAGES:
        if not options.stage and is_complete(options.out, stage):
            print(f"{stage}: there is a result", flush=True)
            continue
        if not _ran(stage, options):
            failed.append(stage)
        write_summary(options.out)
    print(f"{options.out}/summary.md")
    return 1 if failed else 0


def _ran(stage: str, options: argparse.Namespace) -> bool:
    """Run a stage; whether it ended by itself, and well."""
    command = [sys.executable, "-m", "tests.benchmarks.gpu.stage", stage]
    command += ["--out", str(options.out), "--device", options.device]
    command += ["--limit-s", str(options.limit_s), *(["--rehearse"] if options.rehearse else [])]
    print(f"{stage} ...", flush=True)
    began_s = time.monotonic()
    process = subprocess.Popen(command, start_new_session=True)
    try:
        status = process.wait(timeout=options.limit_s + GRACE_S)
    except subprocess.TimeoutExpired:
        status = -1
    finally:
        _end(process.pid)
    said = {0: "done", -1: "stopped at its limit"}.get(status, f"failed with status {status}")
    print(f"{stage}: {said} after {time.monotonic() - began_s:.0f} s", flush=True)
    return status == 0


def _end(session: int) -> None:
    """Whatever a stage left running, SGLang's servers included."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(session, signal.SIGKILL)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--stage", action="append", choices=STAGES, help="by default, all")
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="for the results")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--rehearse", action="store_true", help="a tiny model, short contexts")
    parser.add_argument("--limit-s", type=float, default=LIMIT_S, help="of each stage")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
