"""One stage, in a process of its own: `tests.benchmarks.gpu` runs it."""

import argparse
import asyncio
import os
import time
from pathlib import Path

from tests.benchmarks.gpu import plain_cuda, processes

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("stage")
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
parser.add_argument("--rehearse", action="store_true")
parser.add_argument("--limit-s", type=float, required=True)

processes.prepare()  # in SGLang's processes, which import this module


def main() -> None:
    options = parser.parse_args()
    if options.device == "cuda" and not plain_cuda.has_kernels():
        os.environ[processes.PLAIN_VARIABLE] = "1"
        processes.prepare()
    elif options.device == "cpu":
        os.environ["NIYAMA_CPU"] = "1"

    from tests.benchmarks.gpu.bench import FULL, REHEARSAL, Bench
    from tests.benchmarks.gpu.stages import STAGES

    bench = Bench(
        options.out,
        time.monotonic() + options.limit_s,
        REHEARSAL if options.rehearse else FULL,
        options.device == "cpu",
    )
    asyncio.run(STAGES[options.stage](bench))


if __name__ == "__main__":
    main()
