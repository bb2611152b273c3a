"""SGLang's outputs on their way back: cumulative counts, incremental text and tokens."""

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from http import HTTPStatus
from itertools import zip_longest
from typing import Any

from schemas.topics import MAX_VALUE_BYTES
from workers.engine.port import (
    EngineError,
    FinishReason,
    GenerationUpdate,
    InvalidRequest,
    PreparedRequest,
    TokenLogprob,
)
from workers.policy.decision import Decision
from workers.policy.release import Release
from workers.runtime.messages import from_finish_reason, prefill_in, release_in, times_in

_EMPTY_LOGPROB_BYTES = len('{"token":"","logprob":0,"bytes":[],"top_logprobs":[]}')


class UpdateReader:
    """Reads one request's outputs, in order, until they are more than a result may have.

    Twenty alternatives make two kilobytes of every token. Whoever reads, the pacer first, may hold
    all of them back, so they are counted here.
    """

    def __init__(
        self,
        prepared: PreparedRequest,
        cancelled: Collection[str],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives monotonic seconds."""
        self._clock = clock
        self.finished = False
        self.release: Release | None = None
        """When its tokens are due to be shown; known with the first update."""
        self.least_bytes = 0
        """What the result will have as JSON, at least: escapes and digits are not counted."""
        self._prepared = prepared
        self._cancelled = cancelled
        self._completion_tokens = 0
        self._cached_tokens = 0

    def read(self, output: Mapping[str, Any]) -> GenerationUpdate:
        """The next update. Raises InvalidRequest; EngineError when SGLang gave up the request.

        After one that is TOO_LARGE nothing more is to be read: unless `finished`, abort it.
        """
        meta = output["meta_info"]
        reason = meta.get("finish_reason")
        self.finished = reason is not None
        if reason is not None and reason["type"] == "abort":
            return self._aborted(meta, reason)
        self.release = self.release or release_in(meta)
        self._completion_tokens = meta["completion_tokens"]
        self._cached_tokens = meta["cached_tokens"]
        logprobs = _logprobs(meta)
        self.least_bytes += len(output["text"]) + sum(map(_least_bytes, logprobs or ()))
        if self.least_bytes > MAX_VALUE_BYTES:
            return self._last(FinishReason.TOO_LARGE)
        return GenerationUpdate(
            text_delta=output["text"],
            token_ids=tuple(output["output_ids"]),
            prompt_tokens=meta["prompt_tokens"],
            completion_tokens=self._completion_tokens,
            cached_tokens=self._cached_tokens,
            finish_reason=None if reason is None else FinishReason(reason["type"]),
            logprobs=logprobs,
            prefill=prefill_in(meta),
            ready_s=None if self.release is None else self._clock(),
            engine_times=times_in(meta),
        )

    def refused(self, error: ValueError) -> InvalidRequest:
        """SGLang would not queue the request."""
        self.finished = True
        return InvalidRequest(str(error))

    def _aborted(self, meta: Mapping[str, Any], reason: Mapping[str, Any]) -> GenerationUpdate:
        decision = from_finish_reason(reason)
        kind = FinishReason.CANCELLED if decision is None else FinishReason(decision.kind)
        last = replace(
            self._last(kind, decision), engine_times=times_in(meta), prefill=prefill_in(meta)
        )
        if reason.get("status_code") == HTTPStatus.BAD_REQUEST:
            raise InvalidRequest(reason["message"])
        if decision is None and self._prepared.request_id not in self._cancelled:
            error = EngineError(f"SGLang gave up on the request: {reason['message']}")
            error.last = last
            raise error
        return last

    def _last(self, finish: FinishReason, ended_by: Decision | None = None) -> GenerationUpdate:
        return GenerationUpdate(
            text_delta="",
            token_ids=(),
            prompt_tokens=self._prepared.prompt_tokens,
            completion_tokens=self._completion_tokens,
            cached_tokens=self._cached_tokens,
            finish_reason=finish,
            ended_by=ended_by,
        )


def _logprobs(meta: Mapping[str, Any]) -> tuple[TokenLogprob, ...] | None:
    tokens = meta.get("output_token_logprobs")
    if tokens is None:
        return None
    tops = meta.get("output_top_logprobs") or ()
    return tuple(_token(token, top or ()) for token, top in zip_longest(tokens, tops))


def _token(token: tuple[float, int, str], top: Collection[tuple[float, int, str]]) -> TokenLogprob:
    logprob, token_id, text = token
    return TokenLogprob(token_id, text, logprob, tuple(_token(other, ()) for other in top))


def _least_bytes(token: TokenLogprob) -> int:
    """In a result: each character is in `token`, and as at least one number in `bytes`."""
    alone = _EMPTY_LOGPROB_BYTES + 2 * len(token.text)
    return alone + sum(map(_least_bytes, token.top))
