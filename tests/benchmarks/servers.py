"""SGLang's own server, the baseline of the benchmarks, and the machines that it runs on."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO

import httpx

from niyama.local.ports import LOOPBACK, free_port
from workers.runtime.tiny_model import make_tiny_model

START_TIMEOUT_S = 300
# With the platform plugin SGLang runs on a CPU; on a GPU it does nothing.
STOCK_PLUGINS = "niyama_cpu"
NIYAMA_PLUGINS = "niyama_cpu,niyama"


@dataclass(frozen=True, slots=True)
class Machine:
    """Where SGLang runs, with which arguments and model."""

    name: str
    arguments: tuple[str, ...]
    make_model: Callable[[Path], Path]
    environment: dict[str, str] = field(default_factory=dict)
    launcher: str = "sglang.launch_server"
    """The module that is run."""


LLAMA_3_8B: Mapping[str, object] = {
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "max_position_embeddings": 131072,
    "vocab_size": 128256,
    "dtype": "bfloat16",
}


def make_shape(folder: Path, shape: Mapping[str, object] = LLAMA_3_8B) -> Path:
    """A Llama of this shape, for which SGLang makes up weights (`--load-format dummy`).

    It has the tiny model's tokenizer.
    """
    if not (folder / "config.json").exists():
        make_tiny_model(folder)
        (folder / "model.safetensors").unlink()
        config = json.loads((folder / "config.json").read_text()) | shape
        tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
        tokenizer["model_max_length"] = config["max_position_embeddings"]
        (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
        (folder / "config.json").write_text(json.dumps(config))
    return folder


# What a worker passes on a machine without a GPU (workers/runtime/engine/arguments.py).
CPU = Machine(
    "cpu",
    (
        *("--device", "cpu", "--attention-backend", "torch_native", "--dtype", "float32"),
        *("--sampling-backend", "pytorch", "--chunked-prefill-size", "128"),
        *("--max-total-tokens", "65536", "--mem-fraction-static", "0.3", "--sleep-on-idle"),
        *("--cuda-graph-backend-decode", "disabled", "--cuda-graph-backend-prefill", "disabled"),
    ),
    make_tiny_model,
    {"OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // 2))},
)
GPU = Machine(
    "gpu", ("--load-format", "dummy", "--mem-fraction-static", "0.25"), make_shape
)  # three servers share the GPU's memory


@asynccontextmanager
async def sglang_server(
    model: Path, plugins: str, *arguments: str, machine: Machine = CPU
) -> AsyncIterator[str]:
    """`sglang.launch_server` with these plugins; yields its URL once it serves."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    command = [sys.executable, "-m", machine.launcher, "--model-path", str(model)]
    options = ["--host", LOOPBACK, "--port", str(port), "--log-level", "error"]
    environment = {"SGLANG_PLUGINS": plugins, "PYTHONWARNINGS": "ignore", **machine.environment}
    with tempfile.TemporaryFile() as log:
        server = subprocess.Popen(
            [*command, *options, "--enable-mixed-chunk", *machine.arguments, *arguments],
            env=os.environ | environment,
            stdout=log,
            stderr=log,
        )
        try:
            await _serving(url, server, log)
            yield url
        finally:
            server.terminate()
            server.wait(timeout=30)


async def _serving(url: str, server: "subprocess.Popen[bytes]", log: IO[bytes]) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    async with httpx.AsyncClient(trust_env=False) as client:
        while time.monotonic() < deadline_s:
            if server.poll() is not None:
                log.seek(0)
                said = log.read().decode(errors="replace")[-2000:]
                raise RuntimeError(f"SGLang's server ended with {server.returncode}:\n{said}")
            try:
                answer = await client.get(f"{url}/health_generate", timeout=30)
                if answer.status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.5)
    raise TimeoutError(f"SGLang's server did not serve within {START_TIMEOUT_S} s")


@dataclass(frozen=True, slots=True)
class Generation:
    """One request, as its client saw it, in seconds."""

    ttft_s: float
    total_s: float
    gaps_s: tuple[float, ...] = ()
    """Between one piece of the stream and the next; almost always one token each."""


async def generate(
    client: httpx.AsyncClient,
    url: str,
    prompt: str,
    max_tokens: int,
    qos: dict[str, float],
    **fields: object,
) -> Generation:
    """Stream one greedy generation from SGLang's native API; `fields` go beside the prompt."""
    sampling = {
        "max_new_tokens": max_tokens,
        "temperature": 0,
        "ignore_eos": True,
        "custom_params": {"qos": qos},
    }
    body = {"text": prompt, "sampling_params": sampling, "stream": True, **fields}
    start_s = time.perf_counter()
    async with client.stream("POST", f"{url}/generate", json=body, timeout=300) as response:
        response.raise_for_status()
        pieces = (line async for line in response.aiter_lines() if line.startswith("data: {"))
        times_s = [time.perf_counter() async for _ in pieces]
    assert times_s, "the server streamed nothing"
    gaps_s = tuple(later - earlier for earlier, later in pairwise(times_s))
    return Generation(times_s[0] - start_s, times_s[-1] - start_s, gaps_s)
