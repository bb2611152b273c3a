"""When the chunks of a traced prompt ran, noted until its first token takes them along."""

from collections import deque

from workers.engine.port import PrefillChunk, PrefillChunks

MAX_CHUNKS = 64
"""Noted of one prompt: the first of them, and the last."""


class ChunkNotes:
    """The chunks of one prompt. Times are UTC epoch seconds."""

    def __init__(self) -> None:
        self._chunks: list[PrefillChunk] = []
        self._launched: deque[PrefillChunk] = deque()
        """Not ended yet; overlapped, one may be launched before the one before it ends."""
        self._left_out = 0

    def launched(self, start_s: float, tokens: int, iteration: int, predicted_s: float) -> None:
        """An iteration with so many of its tokens begins."""
        self._launched.append(PrefillChunk(start_s, start_s, tokens, iteration, predicted_s))

    def ended(self, end_s: float) -> None:
        """The result of the oldest iteration that has not ended is here."""
        if not self._launched:
            return
        if len(self._chunks) == MAX_CHUNKS:
            self._chunks.pop()
            self._left_out += 1
        self._chunks.append(self._launched.popleft()._replace(end_s=end_s))

    def take(self) -> PrefillChunks:
        """All that have ended."""
        return PrefillChunks(tuple(self._chunks), self._left_out)
