"""The plumbing of the GPU stages, with an engine that generates nothing real."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from tests.benchmarks.gpu import __main__ as command
from tests.benchmarks.gpu import analysis, recording, stages
from tests.benchmarks.gpu.bench import REHEARSAL, Bench
from tests.benchmarks.gpu.summary import is_complete, write_summary
from workers.engine.null import NullEngine
from workers.engine.port import Engine
from workers.latency.fit import A100_GUESS
from workers.latency.model import LatencyModel
from workers.latency.profiles import load_profile
from workers.runtime.scheduler.driver import Computed, Launched

LAW = LatencyModel(A100_GUESS, A100_GUESS, 512)
SIZES = replace(REHEARSAL, load_s=0.0, waiting=(0, 3), waiting_s=0.0)


def iteration(prefill: int, context: int, decodes: int) -> recording.Iteration:
    decode_context, pairs = 100 * decodes, prefill * (context + prefill / 2)
    took_s = LAW.iteration_s(prefill, context, decodes, decode_context, pairs)
    batch = (prefill, context, decodes, decode_context)
    return recording.Iteration(time.time(), 1.5 * took_s, 0.0005, *batch, took_s, pairs)


ITERATIONS = [
    iteration(2**size, context, decodes)
    for size in range(4, 10)
    for context in (0, 500)
    for decodes in (0, 4, 16)
]


@dataclass(slots=True)
class FakeBench(Bench):
    """Requests are answered by the null engine; the scheduler's record is made up."""

    @contextmanager
    def recorded(self, stage: str) -> Iterator[Path]:
        path = self.folder / "record.jsonl"
        path.write_text("".join(json.dumps(each) + "\n" for each in ITERATIONS))
        yield path

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        engine = NullEngine("null")
        await engine.start()
        yield engine
        await engine.close()


@pytest.fixture
def bench(tmp_path: Path) -> FakeBench:
    return FakeBench(tmp_path, math.inf, SIZES, on_cpu=True)


def run(bench: FakeBench, *names: str) -> str:
    for name in names:
        asyncio.run(stages.STAGES[name](bench))
    write_summary(bench.folder)
    return (bench.folder / "summary.md").read_text()


def test_each_stage_leaves_its_result_and_a_part_of_the_summary(bench: FakeBench) -> None:
    summary = run(bench, "start-up", "iterations")
    assert "### start-up\n" in summary
    assert "### iterations\n" in summary
    assert "| chunk and decodes | 512 | 500 | 2 |" in summary
    assert is_complete(bench.folder, "iterations")


def test_iterations_are_fitted_and_the_profile_says_where_it_comes_from(bench: FakeBench) -> None:
    run(bench, "iterations")
    profile = load_profile(str(bench.folder / stages.PROFILE))
    assert profile.latency.iteration_s(512, 0, 16, 1_600) == pytest.approx(
        LAW.iteration_s(512, 0, 16, 1_600), rel=0.05
    )
    assert "plain torch on a CPU" in profile.provenance


def test_a_stage_that_ran_out_of_time_says_that_it_is_unfinished(bench: FakeBench) -> None:
    bench.until_s = -math.inf
    assert "### iterations (unfinished)\n" in run(bench, "iterations")
    assert not is_complete(bench.folder, "iterations")


def test_a_result_that_was_cut_off_while_it_was_written_is_none(tmp_path: Path) -> None:
    (tmp_path / "plans.json").write_text('{"complete": tr')
    assert not is_complete(tmp_path, "plans")
    write_summary(tmp_path)


def test_stages_with_a_result_are_not_run_again(
    bench: FakeBench, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(bench, "iterations")
    ran: list[str] = []
    monkeypatch.setattr(command, "_ran", lambda stage, _: ran.append(stage) or True)
    assert command.main(["--out", str(bench.folder)]) == 0
    assert ran == ["start-up", "schedulers", "plans"]


def test_the_command_knows_every_stage() -> None:
    assert tuple(stages.STAGES) == command.STAGES


def test_errors_are_of_what_was_predicted_before(bench: FakeBench) -> None:
    assert analysis.errors(ITERATIONS) == pytest.approx([0.5] * len(ITERATIONS))
    cost = analysis.plan_cost(ITERATIONS)
    assert cost.plan_p99_ms == pytest.approx(0.5)


def test_the_recorder_pairs_what_was_launched_with_what_it_took(tmp_path: Path) -> None:
    recorder = recording.Recorder(tmp_path / "lines")
    recorder.planned(0.002)
    recorder.launched(Launched((Computed("a", 100, 50, 100),), 2, 300), LAW)
    recorder.launched(Launched((), 3, 310), LAW)
    recorder.measured([0.5], now_s=1_000.0)
    recorder.measured([0.25], now_s=1_001.0)
    first, second = recording.read(tmp_path / "lines")
    assert first.sample.batch == (100, 50, 2, 300, 10_000)
    assert (first.duration_s, first.planning_s) == (0.5, 0.002)
    assert first.predicted_s == LAW.iteration_s(100, 50, 2, 300)
    assert (second.decodes, second.duration_s, second.planning_s) == (3, 0.25, 0.0)
