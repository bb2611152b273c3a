"""A line for each iteration of a scheduler: what ran, predicted and measured, and what it cost."""

import json
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from workers.latency.fit import Sample
from workers.latency.model import LatencyModel
from workers.runtime.scheduler.batch_maker import BatchMaker, Build
from workers.runtime.scheduler.driver import Launched, PolicyDriver
from workers.runtime.scheduler.seams import Batch, NextBatch

_FLUSH_S = 0.5


class Iteration(NamedTuple):
    """One iteration, in tokens and seconds; its batch as in `workers.latency.fit.Sample`."""

    ended_s: float
    """UTC epoch, to the precision of the next plan."""
    predicted_s: float
    """What it was expected to take, before it ran."""
    planning_s: float
    """Processor time of Niyama's part in making its batch."""
    prefill_tokens: int
    prefill_context: int
    decodes: int
    decode_context: int
    duration_s: float
    pairs: float

    @property
    def sample(self) -> Sample:
        return Sample(*self[3:])


class Recorder:
    """Pairs what was planned, launched and measured: iterations end in order."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._planning_s = 0.0
        self._unmeasured: deque[tuple[Sample, float, float]] = deque()
        self._lines: list[str] = []
        self._flushed_s = 0.0

    def planned(self, planning_s: float) -> None:
        self._planning_s = planning_s

    def launched(self, iteration: Launched, model: LatencyModel) -> None:
        sample = iteration.sample(0.0)
        predicted_s = model.iteration_s(*sample.batch)
        self._unmeasured.append((sample, predicted_s, self._planning_s))
        self._planning_s = 0.0

    def measured(self, durations_s: Sequence[float], now_s: float) -> None:
        for duration_s in durations_s:
            sample, predicted_s, planning_s = self._unmeasured.popleft()
            batch, pairs = sample.batch[:4], sample.batch[4]
            row = Iteration(now_s, predicted_s, planning_s, *batch, duration_s, pairs)
            self._lines.append(json.dumps(row))
        if self._lines and now_s - self._flushed_s > _FLUSH_S:
            with self._path.open("a") as file:
                file.write("\n".join(self._lines) + "\n")
            self._lines, self._flushed_s = [], now_s


def install(path: Path) -> None:
    """Record the schedulers of this process in `path`."""
    recorder = Recorder(path)
    make, launched, measured = BatchMaker.next, PolicyDriver.launched, PolicyDriver.measured

    def timed(self: BatchMaker, running_batch: Batch, build: Build) -> NextBatch:
        building_s = 0.0

        def timed_build(running_batch: Batch) -> NextBatch:
            nonlocal building_s
            before_s = time.thread_time()
            batch = build(running_batch)
            building_s += time.thread_time() - before_s
            return batch

        before_s = time.thread_time()
        batch = make(self, running_batch, timed_build)
        recorder.planned(time.thread_time() - before_s - building_s)
        return batch

    def noted(self: PolicyDriver, iteration: Launched) -> None:
        recorder.launched(iteration, self.policy.calibration.corrected)
        launched(self, iteration)

    def taken(self: PolicyDriver, durations_s: Sequence[float]) -> LatencyModel | None:
        recorder.measured(durations_s, time.time())
        return measured(self, durations_s)

    BatchMaker.next = timed  # type: ignore[method-assign]
    PolicyDriver.launched = noted  # type: ignore[method-assign]
    PolicyDriver.measured = taken  # type: ignore[method-assign]


def read(path: Path) -> list[Iteration]:
    """What was recorded; a last line that is cut off is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    return [Iteration(*json.loads(line)) for line in lines]
