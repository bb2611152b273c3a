"""What prompts cost the requests that decode: sums over iterations, read when a decode begins or
ends, so that an iteration costs the same however many decode in it."""

from bisect import bisect_right
from enum import StrEnum
from typing import NamedTuple

_MAX_GAPS = 256
"""Remembered at once. In a sequence of random gaps some six of a thousand are larger than all that
follow."""


class GapCause(StrEnum):
    """What was between two tokens."""

    RETRACTED = "retracted"
    """The request's KV was taken back."""
    TURN = "turn"
    """Iterations of prompts, without decodes."""
    SHARED = "shared"
    """An iteration of prompts and decodes."""
    DECODES = "decodes"
    """An iteration of decodes alone."""


class Gap(NamedTuple):
    """Between two tokens of a request."""

    seconds: float
    cause: GapCause


class _Ended(NamedTuple):
    at_s: float
    gap: Gap


class Interference:
    """Follows one engine's iterations, which do not overlap. Times are of one monotonic clock."""

    def __init__(self) -> None:
        self._since_s = 0.0
        """When the iteration that runs started."""
        self._runs = self._has_prompts = self._has_decodes = False
        self._decode_s = 0.0
        self._lost_s = 0.0
        self._decoded_s: float | None = None
        """When the last iteration with decodes ended, unless the engine was idle since."""
        self._left_out_s = 0.0
        """Of iterations that computed prompts alone since."""
        self._gaps: list[_Ended] = []
        """Each larger than all that ended after it."""

    def started(
        self, now_s: float, *, prompts: bool, decodes: bool, decode_s: float, after_idle: bool
    ) -> None:
        """An iteration starts. Its decodes alone would take `decode_s`."""
        if after_idle:
            self._decoded_s, self._left_out_s = None, 0.0
        self._runs, self._since_s = True, now_s
        self._has_prompts, self._has_decodes = prompts, decodes
        self._decode_s = decode_s if decodes else 0.0

    def ended(self, now_s: float) -> None:
        """It has ended."""
        self._lost_s = self.lost_s(now_s)
        if self._has_decodes:
            if (gap := self._gap(now_s)) is not None:
                self._remember(_Ended(now_s, gap))
            self._decoded_s, self._left_out_s = now_s, 0.0
        else:
            self._left_out_s += now_s - self._since_s
        self._runs = False

    def lost_s(self, now_s: float) -> float:
        """What all iterations until now took beyond what their decodes alone would have taken.

        The difference between two moments is what a request lost that decoded between them.
        """
        if not self._runs or not self._has_prompts:
            return self._lost_s
        return self._lost_s + max(0.0, now_s - self._since_s - self._decode_s)

    def largest_gap(self, since_s: float, now_s: float) -> Gap | None:
        """Between two tokens of a request that has decoded from `since_s` until now.

        None where no iteration with decodes has ended since, and none runs.
        """
        first = bisect_right(self._gaps, since_s, key=lambda ended: ended.at_s)
        found = self._gaps[first : first + 2]  # the first of them may have begun before `since_s`
        if self._runs and self._has_decodes and (gap := self._gap(now_s)) is not None:
            found = [*found, _Ended(now_s, gap)]
        cut = [gap._replace(seconds=min(gap.seconds, at_s - since_s)) for at_s, gap in found]
        return max(cut, key=lambda gap: gap.seconds, default=None)

    def _gap(self, now_s: float) -> Gap | None:
        """That ends now, with the iteration that runs."""
        if self._decoded_s is None:
            return None
        if self._left_out_s > now_s - self._since_s:
            cause = GapCause.TURN
        else:
            cause = GapCause.SHARED if self._has_prompts else GapCause.DECODES
        return Gap(now_s - self._decoded_s, cause)

    def _remember(self, ended: _Ended) -> None:
        while self._gaps and self._gaps[-1].gap.seconds <= ended.gap.seconds:
            self._gaps.pop()
        self._gaps.append(ended)
        if len(self._gaps) > _MAX_GAPS:
            del self._gaps[0]
