"""What every process of a measurement does first.

SGLang spawns its processes, and a spawned process imports the main module of its parent: `stage`
and `serve` call `prepare` when they are imported, so it runs in SGLang's scheduler, too.
"""

import os
from pathlib import Path

from tests.benchmarks.gpu import plain_cuda, recording

PLAIN_VARIABLE = "NIYAMA_BENCH_PLAIN_CUDA"
RECORD_VARIABLE = "NIYAMA_BENCH_RECORD"
"""The file that gets a line for each iteration."""


def prepare() -> None:
    if os.environ.get(PLAIN_VARIABLE) == "1":
        plain_cuda.install()
    if path := os.environ.get(RECORD_VARIABLE):
        recording.install(Path(path))
