"""An engine without a model: made-up tokens, immediately or at a fixed pace.

For benchmarks of everything around the engine, and for tests. It never serves users.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator

from workers.engine.load import EngineLoad, TokenRates
from workers.engine.port import (
    EngineDead,
    FinishReason,
    GenerationRequest,
    GenerationUpdate,
    PreparedRequest,
    PromptTooLong,
)
from workers.policy.account import EngineTimes
from workers.policy.decision import Decision, DecisionKind, Forecast
from workers.policy.qos import RequestQos

_TEXT = "null "
_TOKEN_ID = 0
_BYTES_PER_TOKEN = 4


class NullEngine:
    """Implements `workers.engine.port.Engine`: runs each request immediately, unless it expired."""

    def __init__(
        self, model: str = "null", *, token_delay_s: float = 0.0, context_tokens: int = 8192
    ) -> None:
        self.model = model
        self._context_tokens = context_tokens
        self._token_delay_s = token_delay_s
        self._aborted: set[str] = set()
        self._running: set[str] = set()
        self._decisions: asyncio.Queue[Decision | None] = asyncio.Queue()
        self._dead = False
        self._rates = TokenRates(time.monotonic)

    @property
    def context_tokens(self) -> int | None:
        return self._context_tokens

    @property
    def load(self) -> EngineLoad | None:
        return EngineLoad(len(self._running), *self._rates.per_s())

    @property
    def silence_s(self) -> float:
        return math.inf if self._dead else 0.0

    async def start(self) -> None:
        """Nothing to load."""

    async def close(self) -> None:
        self._dead = True
        self._decisions.put_nowait(None)

    async def prepare(self, request: GenerationRequest) -> PreparedRequest:
        prompt_tokens = _prompt_tokens(request)
        room = self._context_tokens - prompt_tokens
        if room < 1:
            raise PromptTooLong(
                f"the prompt has {prompt_tokens:,} tokens; with at least one to generate, "
                f"{self._context_tokens:,} fit in the context"
            )
        max_tokens = min(request.sampling.get("max_tokens") or room, room)
        return PreparedRequest(request.request_id, prompt_tokens, max_tokens, request.qos)

    async def generate(self, prepared: PreparedRequest) -> AsyncIterator[GenerationUpdate]:
        request_id = prepared.request_id
        if (decision := _expired(prepared, time.time())) is not None:
            yield _update(prepared, 0, 0, FinishReason.EXPIRED, decision)
            return
        self._running.add(request_id)
        self._rates.add(prompt_tokens=prepared.prompt_tokens)
        start_s = time.monotonic()
        self._decisions.put_nowait(Decision(request_id, DecisionKind.STARTED, time.time()))
        try:
            if not self._token_delay_s:
                self._rates.add(generated_tokens=prepared.max_tokens)
                times = _times(start_s, 0.0)
                yield _update(prepared, prepared.max_tokens, 0, FinishReason.LENGTH, times=times)
                return
            for done in range(1, prepared.max_tokens + 1):
                await asyncio.sleep(self._token_delay_s)
                finish = self._finish_reason(prepared, done)
                self._rates.add(generated_tokens=1)
                if finish:
                    times = _times(start_s, self._token_delay_s)
                    yield _update(prepared, done, done - 1, finish, times=times)
                    return
                yield _update(prepared, done, done - 1, None)
        finally:
            self._running.discard(request_id)
            self._aborted.discard(request_id)

    def abort(self, request_id: str) -> None:
        if request_id in self._running:
            self._aborted.add(request_id)

    async def decisions(self) -> AsyncIterator[Decision]:
        while (decision := await self._decisions.get()) is not None:
            yield decision

    def _finish_reason(self, prepared: PreparedRequest, done: int) -> FinishReason | None:
        if self._dead:
            raise EngineDead("the null engine was closed")
        if prepared.request_id in self._aborted:
            return FinishReason.CANCELLED
        return FinishReason.LENGTH if done == prepared.max_tokens else None


def _prompt_tokens(request: GenerationRequest) -> int:
    if request.input_ids is not None:
        return len(request.input_ids)
    text = request.prompt or "".join(str(m.get("content")) for m in request.messages or ())
    return max(1, len(text.encode()) // _BYTES_PER_TOKEN)


def _expired(prepared: PreparedRequest, now_s: float) -> Decision | None:
    qos: RequestQos = prepared.payload
    if qos.expires_s is None or now_s <= qos.expires_s:
        return None
    forecast = Forecast(queue_wait_s=0.0, finish_s=now_s)
    return Decision.expired(prepared.request_id, qos, now_s, forecast)


def _update(
    prepared: PreparedRequest,
    done: int,
    before: int,
    finish: FinishReason | None,
    ended_by: Decision | None = None,
    times: EngineTimes | None = None,
) -> GenerationUpdate:
    return GenerationUpdate(
        text_delta=_TEXT * (done - before),
        token_ids=(_TOKEN_ID,) * (done - before),
        prompt_tokens=prepared.prompt_tokens,
        completion_tokens=done,
        cached_tokens=0,
        finish_reason=finish,
        ended_by=ended_by,
        engine_times=times,
    )


def _times(start_s: float, first_token_after_s: float) -> EngineTimes:
    """Of a request that began at `start_s`; up to its first token it computed."""
    now_s = time.monotonic()
    first_s = min(start_s + first_token_after_s, now_s)
    return EngineTimes(start_s, 0.0, first_s - start_s, 0.0, first_s, 0.0, now_s)
