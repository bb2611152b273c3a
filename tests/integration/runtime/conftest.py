"""One real SGLang engine for all tests of this folder; starting one takes some 20 s."""

import asyncio
import json
import os
import subprocess
import sys
import warnings
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from tests.support.runtime import Client, flush_cache, prompt_tokens, until

if TYPE_CHECKING:
    from workers.runtime.engine.sglang_engine import SglangEngine

HERE = Path(__file__).parent
CHUNK_TOKENS = 128
ENGINE_ARGUMENTS = ["--chunked-prefill-size", str(CHUNK_TOKENS), "--max-total-tokens", "6144"]


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from workers.runtime.tiny_model import make_tiny_model

        return make_tiny_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="session", autouse=True)
def latency_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the engines of this folder keep what they learn of this machine."""
    folder = tmp_path_factory.mktemp("latency")
    os.environ["NIYAMA_LATENCY_DIR"] = str(folder)
    return folder


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine(tiny_model: Path, latency_dir: Path) -> "AsyncIterator[SglangEngine]":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SGLang's imports say which kernels a machine lacks
        from workers.runtime.engine.sglang_engine import SglangEngine

        # SGLang checks its memory accounting after every iteration, not only when idle.
        os.environ["SGLANG_ENABLE_STRICT_MEM_CHECK_DURING_BUSY"] = "1"
        engine = SglangEngine(str(tiny_model), "tiny", ENGINE_ARGUMENTS)
        await engine.start()
    yield engine
    await engine.close()


@pytest.fixture(scope="session")
def prompts() -> dict[str, list[int]]:
    """Batch prompts, of which one takes so long that others arrive meanwhile, and shorter chats."""
    batch = {f"batch-{i}": prompt_tokens(i + 1, 900 if i else 2_700) for i in range(3)}
    chats = {f"chat-{i}": prompt_tokens(i + 11, 160) for i in range(4)}
    return batch | chats


@pytest.fixture(scope="session")
def crowd() -> dict[str, list[int]]:
    """Two dozen prompts of all sizes, some with a common prefix, and short ones with another."""
    sizes = [20, 33, 64, 90, 128, 150, 200, 256, 300, 400, 512, 700]
    alone = {f"alone-{i:02}": prompt_tokens(i + 101, size) for i, size in enumerate(sizes)}
    common = prompt_tokens(200, 190)
    related = {
        f"related-{i:02}": common + prompt_tokens(i + 201, s // 2) for i, s in enumerate(sizes)
    }
    siblings = {
        f"sibling-{i}": prompt_tokens(400, 70) + prompt_tokens(i + 401, 20) for i in range(4)
    }
    return alone | related | siblings


@pytest.fixture(scope="session")
def stock_outputs(
    tiny_model: Path, prompts: dict[str, list[int]], crowd: dict[str, list[int]]
) -> dict[str, list[int]]:
    """What SGLang generates for the prompts with its own scheduler."""
    prompts = prompts | crowd
    environment = os.environ | {"SGLANG_PLUGINS": "niyama_cpu", "PYTHONWARNINGS": "ignore"}
    arguments = [sys.executable, str(HERE / "stock.py"), str(tiny_model)]
    run = subprocess.run(
        arguments,
        input=json.dumps(prompts),
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    return dict(json.loads(run.stdout.splitlines()[-1]))


@pytest_asyncio.fixture(loop_scope="session")
async def client(engine: "SglangEngine") -> AsyncIterator[Client]:
    client = Client(engine)
    collecting = asyncio.create_task(client.collect())
    yield client
    await until(lambda: not engine._running.manager.rid_to_state)
    await flush_cache(engine)
    collecting.cancel()
