"""When the chunks of a traced prompt ran, noted until its request ends."""

from workers.engine.port import PrefillChunk, PrefillChunks

MAX_CHUNKS = 64
"""Noted of one prompt: the first of them, and the last."""


class ChunkNotes:
    """The chunks of one prompt. Times are told as UTC epoch seconds, and noted by a monotonic
    clock, so that what was noted while somebody set the wall clock still lasts as long as it did.
    """

    def __init__(self) -> None:
        self._chunks: list[PrefillChunk] = []
        self._running: PrefillChunk | None = None
        self._offset_s = 0.0
        self._left_out = 0

    def started(
        self, now_s: float, offset_s: float, tokens: int, iteration: int, predicted_s: float
    ) -> None:
        """An iteration with so many of its tokens starts. `now_s` is monotonic, and `offset_s` what
        is missing to UTC epoch seconds."""
        start_s = now_s + offset_s
        self._running = PrefillChunk(start_s, start_s, tokens, iteration, predicted_s)
        self._offset_s = offset_s

    def ended(self, now_s: float) -> None:
        """The iteration that runs has ended, or the request has."""
        if self._running is None:
            return
        if len(self._chunks) == MAX_CHUNKS:
            self._chunks.pop()
            self._left_out += 1
        self._chunks.append(self._running._replace(end_s=now_s + self._offset_s))
        self._running = None

    def all(self) -> PrefillChunks:
        """That have ended."""
        return PrefillChunks(tuple(self._chunks), self._left_out)
