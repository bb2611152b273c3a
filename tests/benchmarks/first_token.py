"""What Kafka and the gateway add to a chat's time to first token.

The same prompts, alternately, one at a time: as a job posted to the gateway, until its first token
arrives on the tokens topic; and directly to `sglang.launch_server`, until its first streamed
token. Both servers run all the time, with the same model and arguments.

    python -m tests.benchmarks.first_token
"""

import argparse
import asyncio
import random
import tempfile
import time
from pathlib import Path

import httpx
from aiokafka import AIOKafkaConsumer

from niyama import KafkaSettings, kafka
from niyama.local.stack import LocalStack, StackOptions
from tests.benchmarks.figures import milliseconds, percentile, show
from tests.benchmarks.servers import STOCK_PLUGINS, generate, sglang_server
from workers.runtime.tiny_model import make_tiny_model

PAIRS = 40
WARM_UP_PAIRS = 5
PROMPT_TOKENS = 120
MAX_TOKENS = 8


async def through_gateway(api: httpx.AsyncClient, tokens: AIOKafkaConsumer, prompt: str) -> float:
    """Seconds from the POST to the first token on the tokens topic."""
    body = {
        "model": "niyama-tiny",
        "prompt": prompt,
        "qos": "chat",
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    start_s = time.perf_counter()
    posting = asyncio.create_task(api.post("/v1/jobs", json=body))
    first_s = None
    async for record in tokens:
        first_s = first_s or time.perf_counter()
        if b'"finish_reason":' in record.value:
            break
    (await posting).raise_for_status()
    assert first_s is not None
    return first_s - start_s


async def measure(stack: LocalStack, direct_url: str) -> tuple[list[float], list[float]]:
    choose = random.Random(7)
    settings = KafkaSettings(kafka_bootstrap=stack.kafka_bootstrap)
    tokens = kafka.consumer(settings, settings.topics.tokens.name, auto_offset_reset="latest")
    await tokens.start()
    await tokens.seek_to_end()
    gateway_s, direct_s = [], []
    async with (
        httpx.AsyncClient(base_url=stack.api_url, trust_env=False) as api,
        httpx.AsyncClient(trust_env=False) as client,
    ):
        for _ in range(WARM_UP_PAIRS + PAIRS):
            prompt = "".join(choose.choices("abcdefghij ", k=PROMPT_TOKENS))
            gateway_s.append(await through_gateway(api, tokens, prompt))
            qos = {"ttft_ms": 1000.0, "tbt_ms": 100.0}
            direct = await generate(client, direct_url, prompt, MAX_TOKENS, qos)
            direct_s.append(direct.ttft_s)
    await tokens.stop()
    return gateway_s[WARM_UP_PAIRS:], direct_s[WARM_UP_PAIRS:]


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="niyama-bench-") as folder:
        Path(folder).chmod(0o755)
        model = make_tiny_model(Path(folder) / "tiny")
        options = StackOptions(state_dir=Path(folder) / "stack")
        async with LocalStack(options) as stack, sglang_server(model, STOCK_PLUGINS) as url:
            gateway_s, direct_s = await measure(stack, url)
    differences_s = [ours - theirs for ours, theirs in zip(gateway_s, direct_s, strict=True)]
    rows = [("through Kafka", gateway_s), ("sglang.launch_server", direct_s)]
    rows.append(("difference, pair by pair", differences_s))
    show(
        f"Time to first token, {PAIRS} chats of {PROMPT_TOKENS} tokens, one at a time",
        ["", "p50", "p90"],
        [[name, *(milliseconds(percentile(s, p)) for p in (50, 90))] for name, s in rows],
    )


if __name__ == "__main__":
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    asyncio.run(main())
