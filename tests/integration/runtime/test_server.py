"""The plugin alone: SGLang's own server with Niyama in it, used as its users use it."""

import asyncio
import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import openai
import pytest
import pytest_asyncio
from prometheus_client.parser import text_string_to_metric_families

from niyama.local.ports import LOOPBACK, free_port
from tests.support.runtime import until_made

pytestmark = pytest.mark.asyncio(loop_scope="module")

ARGUMENTS = (
    *("--device", "cpu", "--attention-backend", "torch_native", "--dtype", "float32"),
    *("--sampling-backend", "pytorch", "--chunked-prefill-size", "128"),
    *("--max-total-tokens", "16384", "--mem-fraction-static", "0.3", "--sleep-on-idle"),
    *("--cuda-graph-backend-decode", "disabled", "--cuda-graph-backend-prefill", "disabled"),
    # Without mixed chunks, which a worker always has.
    *("--enable-metrics", "--log-level", "error"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def server(tiny_model: Path) -> AsyncIterator[httpx.AsyncClient]:
    port = free_port()
    command = [sys.executable, "-W", "ignore", "-m", "sglang.launch_server"]
    options = ["--model-path", str(tiny_model), "--host", LOOPBACK, "--port", str(port)]
    environment = {"SGLANG_PLUGINS": "niyama,niyama_cpu", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, *options, *ARGUMENTS], env=os.environ | environment)
    try:
        url = f"http://{LOOPBACK}:{port}"
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=120) as client:
            await serving(client, process)
            yield client
    finally:
        process.terminate()
        try:
            process.wait(timeout=120)
        finally:
            process.kill()


async def serving(client: httpx.AsyncClient, process: "subprocess.Popen[bytes]") -> None:
    end_s = time.monotonic() + 420
    while time.monotonic() < end_s:
        assert process.poll() is None, "the server ended"
        try:
            if (await client.get("/health_generate")).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.3)
    raise AssertionError("the server did not start in time")


async def metrics(server: httpx.AsyncClient) -> dict[str, float]:
    sums: dict[str, float] = defaultdict(float)
    for family in text_string_to_metric_families((await server.get("/metrics")).text):
        for sample in family.samples:
            sums[sample.name] += sample.value
    return sums


async def test_the_openai_client_says_what_a_chat_needs(server: httpx.AsyncClient) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        client = openai.AsyncOpenAI(
            base_url=f"{server.base_url}/v1", api_key="none", http_client=http
        )
        pieces = await client.chat.completions.create(
            model="default",
            messages=[{"role": "user", "content": "Hello"}],
            max_tokens=6,
            stream=True,
            extra_body={"custom_params": {"qos": {"ttft_ms": 2000, "tbt_ms": 200}}},
        )
        reasons = [choice.finish_reason async for piece in pieces for choice in piece.choices]
        assert reasons[-1] in ("length", "stop")
        with pytest.raises(openai.BadRequestError, match="needs one of: ttft_ms and tbt_ms"):
            await client.completions.create(
                model="default", prompt="Hello", extra_body={"custom_params": {"qos": {}}}
            )


async def test_without_mixed_chunks_a_chat_goes_on_between_batch_prompts(
    server: httpx.AsyncClient,
) -> None:
    def sampling(tokens: int, qos: dict[str, float]) -> dict[str, object]:
        return {"max_new_tokens": tokens, "ignore_eos": True, "custom_params": {"qos": qos}}

    chat = [(3 * k + 1) % 251 for k in range(50)]
    batch = [[(11 * i + k * (2 * i + 5)) % 256 for k in range(900)] for i in range(4)]
    of_chat = sampling(8, {"ttft_ms": 1000, "tbt_ms": 100})
    of_batch = sampling(2, {"ttlt_s": 600})
    # In one call, the chat first: they are there together.
    body = {"input_ids": [chat, *batch], "sampling_params": [of_chat, *[of_batch] * 4]}
    answers = (await server.post("/generate", json=body)).raise_for_status().json()
    chat_s, *batch_s = [answer["meta_info"]["request_finished_ts"] for answer in answers]
    assert chat_s < max(batch_s)


async def test_sglangs_metrics_count_what_was_served(server: httpx.AsyncClient) -> None:
    """Long batch prompts and a chat that parks them: every token is counted once."""
    before = await metrics(server)

    async def generate(input_ids: list[int], qos: dict[str, float]) -> None:
        sampling = {"max_new_tokens": 5, "ignore_eos": True, "custom_params": {"qos": qos}}
        body = {"input_ids": input_ids, "sampling_params": sampling}
        (await server.post("/generate", json=body)).raise_for_status()

    async def seen_in_the_queue(number: int) -> int | None:
        """How often there were six batch prompts and a chat, once some have waited."""
        seeds = range(6 * number, 6 * number + 6)
        batch = [[(7 * i + k * (2 * i + 3)) % 256 for k in range(900)] for i in seeds]
        chat = [(5 * k + number + 1) % 251 for k in range(100)]
        tasks = [asyncio.create_task(generate(ids, {"ttlt_s": 600})) for ids in batch]
        queued = 0.0
        while not queued and not all(task.done() for task in tasks):
            queued = (await metrics(server))["sglang:num_queue_reqs"]
        await generate(chat, {"ttft_ms": 5000, "tbt_ms": 500})
        await asyncio.gather(*tasks)
        return number + 1 if queued else None

    rounds = await until_made(seen_in_the_queue)
    await server.get("/health_generate")  # a batch of its own, after which the gauges are current
    after = await metrics(server)
    grown = {name: after[name] - before[name] for name in after}
    assert grown["sglang:prompt_tokens_total"] == rounds * (6 * 900 + 100)
    assert grown["sglang:generation_tokens_total"] == rounds * 7 * 5
    assert grown["sglang:num_requests_total"] == rounds * 7
    # What a parked prompt had computed is no cache hit when it continues.
    assert grown["sglang:cached_tokens_total"] < rounds * 10
    assert after["sglang:num_queue_reqs"] == 0
