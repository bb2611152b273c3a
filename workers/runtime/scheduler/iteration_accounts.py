"""Tells the accounts and notes of requests what ran, and when.

Overlapped, an iteration is launched while the one before it runs: it starts when that one ends.
"""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from workers.policy.interference import Interference
from workers.runtime.scheduler.seams import EngineRequest


@dataclass(frozen=True, slots=True)
class ChunkLaunched:
    """A request's part of an iteration."""

    req: EngineRequest
    tokens: int
    alone_s: float = math.inf
    """What it would take without others; infinite where it is alone."""


@dataclass(frozen=True, slots=True)
class IterationLaunched:
    number: int
    """Counted from 1."""
    predicted_s: float
    chunks: Sequence[ChunkLaunched]
    unfinished: Sequence[EngineRequest]
    """Those whose prompts had a chunk in the iteration before this one, and were not complete."""
    decodes: int
    decode_s: float
    """What its decodes alone would take."""
    after_idle: bool


class IterationAccounts:
    def __init__(self, interference: Interference) -> None:
        self._interference = interference
        self._launched: deque[IterationLaunched] = deque()
        """Those that have not ended; the first of them runs."""

    def launched(self, iteration: IterationLaunched, now_s: float, offset_s: float) -> None:
        """`now_s` is monotonic; `offset_s` from there to UTC epoch seconds."""
        self._launched.append(iteration)
        if len(self._launched) == 1:
            self._start(iteration, now_s, offset_s)

    def ended(self, now_s: float, offset_s: float) -> None:
        """The one that runs has ended."""
        ended = self._launched.popleft()
        self._interference.ended(now_s)
        for chunk in ended.chunks:
            if (notes := chunk.req.niyama.chunks) is not None:
                notes.ended(now_s)
        if self._launched:
            self._start(self._launched[0], now_s, offset_s)

    def _start(self, iteration: IterationLaunched, now_s: float, offset_s: float) -> None:
        self._interference.started(
            now_s,
            prompts=bool(iteration.chunks),
            decodes=iteration.decodes > 0,
            decode_s=iteration.decode_s,
            after_idle=iteration.after_idle,
        )
        computed = {chunk.req.rid for chunk in iteration.chunks}
        for req in iteration.unfinished:
            if req.rid not in computed:
                req.niyama.account.left_out(now_s)
        for chunk in iteration.chunks:
            chunk.req.niyama.account.launched(now_s, chunk.alone_s)
            notes = chunk.req.niyama.chunks
            if notes is not None and not chunk.req.output_ids:
                notes.started(
                    now_s, offset_s, chunk.tokens, iteration.number, iteration.predicted_s
                )
