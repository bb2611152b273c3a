"""The real SGLang with Niyama's scheduler in it, overlapped schedule on."""

import asyncio
import json
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.runtime import Client, chat_qos, frozen, prompt_tokens, until
from workers.engine.port import GenerationRequest, InvalidRequest, PromptTooLong

if TYPE_CHECKING:
    from workers.runtime.engine.sglang_engine import SglangEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_chat_template_and_json_schema(client: Client) -> None:
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    request = GenerationRequest(
        "json",
        chat_qos(),
        messages=[{"role": "user", "content": "hi"}],
        sampling={
            "max_tokens": 100,
            "response_format": {
                "type": "json_schema",
                "json_schema": {"name": "answer", "schema": schema},
            },
        },
    )
    prepared = await client.engine.prepare(request)
    assert prepared.prompt_tokens == 5  # <|bos|> <|user|> h i <|assistant|>
    text = "".join([u.text_delta async for u in client.engine.generate(prepared)])
    assert json.loads(text)["ok"] in (True, False)


async def test_log_probabilities_of_each_token(client: Client) -> None:
    request = GenerationRequest(
        "logprobs",
        chat_qos(),
        prompt="hello",
        sampling={"max_tokens": 3, "logprobs": True, "top_logprobs": 2, "ignore_eos": True},
    )
    updates = [u async for u in client.engine.generate(await client.engine.prepare(request))]
    found = [entry for update in updates for entry in update.logprobs or ()]
    assert [len(entry.top) for entry in found] == [2, 2, 2]
    assert all(entry.logprob < 0 for entry in found)


@pytest.mark.parametrize(
    ("prompt", "kind", "reason"),
    [
        ({"prompt": "x" * 8300}, PromptTooLong, "8300 tokens; this worker takes at most"),
        ({"prompt": ""}, InvalidRequest, "give one of messages, prompt and input_ids"),
        ({"input_ids": [9999]}, InvalidRequest, "9999; the model's token ids are 0 to 319"),
        ({"prompt": "x", "sampling": {"fuel": 1}}, InvalidRequest, "unknown options: fuel"),
        ({"prompt": "x", "sampling": {"temperature": -1}}, InvalidRequest, "temperature"),
        ({"prompt": "x", "sampling": {"regex": "("}}, InvalidRequest, "regex"),
    ],
)
async def test_says_what_is_wrong_with_a_request(
    client: Client,
    prompt: dict[str, object],
    kind: type[Exception],
    reason: str,
) -> None:
    with pytest.raises(kind, match=reason):
        await client.run("wrong", chat_qos(), **prompt)


async def test_a_bad_model_path_says_what_to_do(engine: "SglangEngine", tmp_path: Path) -> None:
    from workers.runtime.engine.arguments import server_arguments
    from workers.runtime.engine.launch import start_error

    path = str(tmp_path / "nowhere")
    with pytest.raises((OSError, ValueError)) as raised:
        server_arguments(path, [], "error").resolve_once()
    assert "neither a local folder nor a model" in str(start_error(raised.value, path))


@pytest.mark.parametrize("process", ["scheduler", "detokenizer"])
async def test_a_frozen_process_of_sglang_is_silent_until_it_continues(
    client: Client, process: str
) -> None:
    """At its limit the watchdog would end the engine (`test_ranks.py`); an idle one, too."""
    running = client.engine._running
    pid = running.runtime.get_all_child_pids()[["scheduler", "detokenizer"].index(process)]
    await until(lambda: running.watchdog.silence_s <= 1)
    with frozen(pid):
        await until(lambda: running.watchdog.silence_s >= 3)
    await until(lambda: running.watchdog.silence_s <= 1)
    assert not running.death.done()


async def test_a_tokenizer_that_hangs_is_noticed(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, stuck = client.engine._running, threading.Event()
    monkeypatch.setattr(
        type(running.translator), "prepare", lambda self, request: stuck.wait(120) and None
    )
    request = GenerationRequest("stuck", chat_qos(), prompt="x")
    preparing = asyncio.create_task(client.engine.prepare(request))
    try:
        await until(lambda: client.engine.silence_s >= 3)
    finally:
        stuck.set()
    await preparing
    await until(lambda: client.engine.silence_s <= 1)


async def test_a_traced_request_tells_the_iterations_that_computed_its_prompt(
    client: Client, engine: "SglangEngine"
) -> None:
    before_s = time.time()
    request = GenerationRequest(
        "traced",
        chat_qos(),
        input_ids=prompt_tokens(77, 300),
        sampling={"max_tokens": 4, "ignore_eos": True},
        traceparent=f"00-{7:032x}-{8:016x}-01",
    )

    updates = [each async for each in engine.generate(await engine.prepare(request))]

    *earlier, last = [update.prefill for update in updates]
    assert last is not None
    assert not any(earlier)
    assert sum(chunk.tokens for chunk in last.chunks) == 300
    assert len(last.chunks) > 1
    iterations = [chunk.iteration for chunk in last.chunks]
    assert iterations == sorted(set(iterations))
    times = [at_s for chunk in last.chunks for at_s in (chunk.start_s, chunk.end_s)]
    assert before_s < times[0]
    assert times[-1] < time.time()
