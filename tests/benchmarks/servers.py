"""SGLang's own server, as the thing to compare with."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import httpx

from niyama.local.ports import LOOPBACK, free_port

START_TIMEOUT_S = 180
# What a worker passes on a machine without a GPU (workers/runtime/arguments.py).
CPU_ARGUMENTS = (
    *("--device", "cpu", "--attention-backend", "torch_native", "--sampling-backend", "pytorch"),
    *("--dtype", "float32", "--chunked-prefill-size", "128", "--max-total-tokens", "65536"),
    *("--mem-fraction-static", "0.3", "--disable-cuda-graph", "--sleep-on-idle"),
    "--enable-mixed-chunk",
)
# The platform makes SGLang run on a CPU; the scheduler is what is compared.
STOCK_PLUGINS = "niyama_cpu"
NIYAMA_PLUGINS = "niyama_cpu,niyama"


@asynccontextmanager
async def sglang_server(model: Path, plugins: str, *arguments: str) -> AsyncIterator[str]:
    """``sglang.launch_server`` with these plugins; yields its URL once it serves."""
    port = free_port()
    url = f"http://{LOOPBACK}:{port}"
    command = [sys.executable, "-m", "sglang.launch_server", "--model-path", str(model)]
    options = ["--host", LOOPBACK, "--port", str(port), "--log-level", "error"]
    server = subprocess.Popen(
        [*command, *options, *CPU_ARGUMENTS, *arguments],
        env={**os.environ, "SGLANG_PLUGINS": plugins},
        stdout=subprocess.DEVNULL,
    )
    try:
        await _serving(url, server)
        yield url
    finally:
        server.terminate()
        server.wait(timeout=30)


async def _serving(url: str, server: "subprocess.Popen[bytes]") -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    async with httpx.AsyncClient(trust_env=False) as client:
        while time.monotonic() < deadline_s:
            if server.poll() is not None:
                raise RuntimeError(f"sglang.launch_server ended with {server.returncode}")
            try:
                answer = await client.get(f"{url}/health_generate", timeout=30)
                if answer.status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            await asyncio.sleep(0.5)
    raise TimeoutError(f"sglang.launch_server did not serve within {START_TIMEOUT_S} s")


@dataclass(frozen=True, slots=True)
class Generation:
    """One request, as its client saw it, in seconds."""

    ttft_s: float
    total_s: float
    #: Between one piece of the stream and the next; almost always one token each.
    gaps_s: tuple[float, ...] = ()


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
