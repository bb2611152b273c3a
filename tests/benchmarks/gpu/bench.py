"""What a stage is given: the machine, its sizes, a folder, and how long it may take."""

import asyncio
import json
import os
import platform
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import count
from pathlib import Path

from tests.benchmarks.gpu import plain_cuda
from tests.benchmarks.gpu.processes import RECORD_VARIABLE
from tests.benchmarks.servers import CPU, GPU, LLAMA_3_8B, Machine, make_shape
from workers.engine.port import Engine, EngineError, GenerationRequest
from workers.policy.qos import RequestQos

MODEL = "bench-model"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured."""

    shape: dict[str, object]
    contexts: tuple[int, ...]
    chunks: tuple[int, ...]
    repeats: int
    decodes: tuple[int, ...]
    decode_tokens: int
    load_s: float
    """Of the mixed load after the start."""
    loads: tuple[float, ...]
    run_s: float
    capacity_requests: int
    waiting: tuple[int, ...]
    waiting_s: float


FULL = Sizes(
    shape=dict(LLAMA_3_8B),
    contexts=(0, 2_000, 8_000, 32_000, 100_000),
    chunks=(16, 128, 512, 2_048, 8_192),
    repeats=3,
    decodes=(1, 8, 64, 200),
    decode_tokens=300,
    load_s=10.0,
    loads=(1.0, 1.5, 2.0),
    run_s=20.0,
    capacity_requests=200,
    waiting=(0, 500, 5_000),
    waiting_s=20.0,
)
REHEARSAL = Sizes(
    shape={"vocab_size": 1024},
    contexts=(0, 200, 600),
    chunks=(16, 64, 256),
    repeats=1,
    decodes=(1, 4),
    decode_tokens=20,
    load_s=5.0,
    loads=(1.0,),
    run_s=5.0,
    capacity_requests=10,
    waiting=(0, 50),
    waiting_s=3.0,
)


@dataclass(slots=True)
class Bench:
    folder: Path
    until_s: float
    """On the monotonic clock; a stage leaves out what would begin later."""
    sizes: Sizes
    on_cpu: bool
    _names: Iterator[int] = field(default_factory=count)

    # ---- where it runs

    @property
    def kernels(self) -> str:
        if self.on_cpu:
            return "plain torch on a CPU"
        return "sgl-kernel" if plain_cuda.has_kernels() else plain_cuda.WITHOUT_KERNELS

    @property
    def arguments(self) -> tuple[str, ...]:
        """Of SGLang, beside a worker's defaults for this machine."""
        dummy = ("--load-format", "dummy")
        plain = () if self.on_cpu or plain_cuda.has_kernels() else plain_cuda.ARGUMENTS
        return (*dummy, *plain)

    def machine(self) -> Machine:
        """For servers of SGLang beside each other."""
        base = CPU if self.on_cpu else GPU
        return Machine(
            base.name,
            (*base.arguments, *self.arguments),
            lambda folder: make_shape(folder, self.sizes.shape),
            base.environment,
            launcher="tests.benchmarks.gpu.serve",
        )

    # ---- results

    @property
    def in_time(self) -> bool:
        return time.monotonic() < self.until_s

    @property
    def latency_folder(self) -> Path:
        return self.folder / "latency"

    def save(self, stage: str, result: dict[str, object], *, complete: bool) -> None:
        """What a stage has found so far: an interruption loses nothing."""
        content = {
            "stage": stage,
            "complete": complete,
            "machine": describe(self),
            "result": result,
        }
        path = self.folder / f"{stage}.json"
        path.write_text(json.dumps(content, indent=1) + "\n")

    @contextmanager
    def recorded(self, stage: str) -> Iterator[Path]:
        """Schedulers that are started within record their iterations in the file."""
        path = self.folder / f"{stage}.iterations.jsonl"
        path.unlink(missing_ok=True)
        os.environ[RECORD_VARIABLE] = str(path)
        os.environ["NIYAMA_LATENCY_DIR"] = str(self.latency_folder)
        try:
            yield path
        finally:
            del os.environ[RECORD_VARIABLE]

    # ---- requests

    @asynccontextmanager
    async def engine(self) -> AsyncIterator[Engine]:
        """A worker's engine, with a worker's default arguments, once it is ready."""
        from workers.runtime.engine.sglang_engine import SglangEngine

        model = make_shape(self.folder / MODEL, self.sizes.shape)
        engine = SglangEngine(str(model), arguments=self.arguments)
        try:
            await engine.start()
            yield engine
        finally:
            await engine.close()

    async def run(self, engine: Engine, qos: RequestQos, prompt: list[int], most: int) -> None:
        """One generation to its end, of `most` tokens."""
        request = GenerationRequest(
            request_id=f"bench-{next(self._names)}",
            qos=qos,
            input_ids=prompt,
            sampling={"max_tokens": most, "ignore_eos": True},
        )
        try:
            async for _ in engine.generate(await engine.prepare(request)):
                pass
        except EngineError as error:
            print(f"{request.request_id}: {error}", flush=True)

    async def batch(self, engine: Engine, prompt: list[int], most: int) -> None:
        await self.run(engine, RequestQos.batch(time.time(), ttlt_s=3_600.0), prompt, most)


def prompt(seed: int, tokens: int) -> list[int]:
    """Token ids that share no prefix with those of another seed, in any vocabulary."""
    head = [seed % 251, seed // 251 % 251, seed // 63_001 % 251]
    return [*head, *((seed * 7 + i * 31) % 251 for i in range(tokens))][:tokens]


def describe(bench: Bench) -> dict[str, object]:
    """Enough to tell one machine's figures from another's."""
    return {
        "device": f"{platform.machine()} CPU" if bench.on_cpu else _gpu_name(),
        "kernels": bench.kernels,
        "sglang": version("sglang"),
        "torch": version("torch"),
        "model": f"random weights, {_named(bench.sizes.shape)}",
        "arguments": " ".join(bench.arguments),
        "measured": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "cores": os.cpu_count(),
    }


def _named(shape: Mapping[str, object]) -> str:
    return "Llama-3-8B's shape" if shape == LLAMA_3_8B else "tiny"


def _gpu_name() -> str:
    import torch

    return str(torch.cuda.get_device_name())


async def cancelled(tasks: list["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
