"""The real SGLang with Niyama's scheduler in it: who comes first, and every token is stock."""

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from typing import NamedTuple

import pytest

from tests.support.runtime import (
    Client,
    batch_qos,
    chat_qos,
    flush_cache,
    prompt_tokens,
    until,
    until_made,
)
from workers.engine.port import FinishReason
from workers.policy.account import EngineTimes
from workers.policy.decision import DecisionKind
from workers.policy.qos import RequestQos
from workers.policy.release import Release

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def test_chats_overtake_batch_prompts_and_every_token_is_stock(
    client: Client,
    prompts: dict[str, list[int]],
    stock_outputs: dict[str, list[int]],
) -> None:
    batch = [name for name in prompts if name.startswith("batch")]
    chats = [name for name in prompts if name.startswith("chat")]

    async def overtaking(number: int) -> list[str] | None:
        """The ids of all, if the chats came while most of the first prompt was to be computed."""
        await flush_cache(client.engine)
        running = []
        for names, qos in ((batch, batch_qos), (chats, chat_qos)):
            prepared = [
                await client.prepare(f"{name}-{number}", qos(), input_ids=prompts[name])
                for name in names
            ]
            running += [asyncio.create_task(client.finish(each)) for each in prepared]
            await until(lambda: "started" in client.kinds(f"{batch[0]}-{number}"))
        generated = await asyncio.gather(*running)
        assert [ids for ids, _ in generated] == [stock_outputs[name] for name in batch + chats]
        first, *_ = came = [client.times[f"{name}-{number}"] for name in batch + chats]
        half_s = first.entered_s + first.waiting_s + first.computing_s / 2
        in_time = max(each.entered_s for each in came) < half_s
        return [f"{name}-{number}" for name in batch + chats] if in_time else None

    ids = await until_made(overtaking)

    def started() -> list[str]:
        kind = DecisionKind.STARTED
        return [d.request_id for d in client.decisions if d.kind is kind and d.request_id in ids]

    await until(lambda: len(started()) == len(ids) and len(client.kinds(ids[0])) >= 3)
    assert client.kinds(ids[0])[:3] == ["started", "parked", "resumed"]
    assert started()[0] == ids[0]
    assert all(name.startswith("chat") for name in started()[1:5])


class Shown(NamedTuple):
    """A chat that was held back."""

    shown_s: Mapping[int, float]
    """When each update was shown, by the tokens that came before it; monotonic seconds."""
    release: Release


def _noted_releases(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], Release | None]]:
    """Gives what the engine asks for the release of each request, in the order of these."""
    from workers.runtime.engine import pacer, sglang_engine

    on_schedule = pacer.on_schedule
    releases: list[Callable[[], Release | None]] = []

    def noted(
        updates: pacer.Updates,
        release_of: Callable[[], Release | None],
        clock: Callable[[], float],
    ) -> pacer.Updates:
        releases.append(release_of)
        return on_schedule(updates, release_of, clock)

    monkeypatch.setattr(sglang_engine, "on_schedule", noted)
    return releases


async def test_under_load_a_chats_tokens_are_shown_on_schedule(
    client: Client,
    prompts: dict[str, list[int]],
    stock_outputs: dict[str, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The queue fills the time until it is due: the chat's tokens, early, wait for their turns.

    The queue is more than most machines compute in time, and its prompts are of all sizes: what
    cannot be met yields, and what is left fills the time of a fast machine and of a slow one.
    """
    releases = _noted_releases(monkeypatch)
    ttft_s, tbt_s = 2.0, 0.2

    async def held_back(number: int) -> Shown | None:
        """A chat, if so much of the queue was due when it had its first token that it was held."""
        waiting = [
            await client.prepare(
                f"urgent-{number}-{i}",
                RequestQos.batch(time.time(), ttlt_s=5.0),
                input_ids=prompt_tokens(i + 60, 160 + 32 * i),
            )
            for i in range(40)
        ]
        queue = [asyncio.create_task(client.finish(each)) for each in waiting]
        await until(lambda: "started" in client.kinds(waiting[0].request_id))
        chat = RequestQos.interactive(time.time(), ttft_s=ttft_s, tbt_s=tbt_s)
        asked_s = time.monotonic()
        held = await client.prepare(f"held-{number}", chat, input_ids=prompts["chat-0"])
        ids, shown_s = [], {}
        async for update in client.updates(held):
            shown_s[len(ids)] = time.monotonic()
            ids += update.token_ids
        for each in waiting:
            client.engine.abort(each.request_id)
        await asyncio.gather(*queue)
        assert ids == stock_outputs["chat-0"]
        release = releases[len(waiting)]()
        releases.clear()
        await flush_cache(client.engine)
        is_held = release is not None and release.first_s - asked_s > ttft_s / 2
        return Shown(shown_s, release) if is_held else None

    found = await until_made(held_back)

    assert 0.9 * tbt_s < found.release.pace_s <= tbt_s
    early_s = [
        found.release.first_s + place * found.release.pace_s - shown_s
        for place, shown_s in found.shown_s.items()
    ]
    assert max(early_s) < 0.01, early_s


async def test_a_common_prefix_is_computed_once_and_every_token_is_stock(
    client: Client,
    crowd: dict[str, list[int]],
    stock_outputs: dict[str, list[int]],
) -> None:
    """Prompts of 90 tokens, of which the first 70 are the same, in iterations of 128."""
    names = [name for name in crowd if name.startswith("sibling")]
    jobs = [client.run(name, batch_qos(), input_ids=crowd[name]) for name in names]
    generated = await asyncio.gather(*jobs)
    assert [ids for ids, _ in generated] == [stock_outputs[name] for name in names]
    assert sorted(client.cached_tokens[name] for name in names) == [0, 70, 70, 70]


async def test_continues_when_memory_is_short(client: Client) -> None:
    """6,144 tokens of KV: five prompts of 1,500 do not fit, and chats still come first."""
    batch = [
        asyncio.create_task(
            client.run(f"big-{i}", batch_qos(), input_ids=prompt_tokens(30 + i, 1500))
        )
        for i in range(5)
    ]
    await until(lambda: "started" in client.kinds("big-0"))
    chats = [
        await client.run(f"small-{i}", chat_qos(), input_ids=prompt_tokens(40 + i, 300))
        for i in range(3)
    ]
    assert [reason for _, reason in chats] == [FinishReason.LENGTH] * 3
    for task in batch:
        assert (await task)[1] == FinishReason.LENGTH


async def test_a_chat_with_log_probabilities_goes_on_between_batch_prompts(
    client: Client,
) -> None:
    """SGLang leaves decodes out of batches with them, and runs prompts first."""

    async def beside(number: int) -> tuple[EngineTimes, list[EngineTimes]] | None:
        """A chat that had not ended when the batch prompts came, and these."""
        chat, *names = [f"{name}-{number}" for name in ("wants-logprobs", *"abcd")]
        prepared = [
            await client.prepare(name, batch_qos(), 2, input_ids=prompt_tokens(i, 700))
            for i, name in enumerate(names, 300 + 10 * number)
        ]
        sampling = {"logprobs": True}
        job = client.run(chat, chat_qos(), input_ids=[number + 1] * 20, sampling=sampling)
        chatting = asyncio.create_task(job)
        await until(lambda: chat in client.ttft_s)
        await asyncio.gather(chatting, *map(client.finish, prepared))
        batch = [client.times[name] for name in names]
        in_time = max(each.entered_s for each in batch) < client.times[chat].ended_s
        return (client.times[chat], batch) if in_time else None

    chat, batch = await until_made(beside)
    assert chat.ended_s < max(each.first_token_s or math.inf for each in batch)
