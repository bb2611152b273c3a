"""Where a request's time in the engine goes: each moment counts as one thing."""

import math
from enum import StrEnum
from typing import NamedTuple

from workers.policy.interference import Gap, GapCause, Interference


class Phase(StrEnum):
    WAITING = "waiting"
    """Other work goes before its prompt."""
    COMPUTING = "computing"
    """A chunk of its prompt is in the iteration that runs."""
    PARKED = "parked"
    """Its prompt was paused for a more urgent one."""
    DECODING = "decoding"
    """Its first token is there, and not its last."""
    RETRACTED = "retracted"
    """Its KV was taken back while it was decoding; until it has its next token."""


class EngineTimes(NamedTuple):
    """One request's time in the engine, by a monotonic clock.

    From `entered_s` to `first_token_s` it waited, computed or was parked; from then to `ended_s` it
    decoded or was retracted. Without a token the first three go on to its end.

    `computing_beside_s` is a part of `computing_s`, `decode_beside_s` of the decode: what the work
    of others cost it there.
    """

    entered_s: float
    waiting_s: float
    computing_s: float
    parked_s: float
    first_token_s: float | None
    retracted_s: float
    ended_s: float
    computing_beside_s: float = 0.0
    decode_beside_s: float = 0.0
    gap_s: float = 0.0
    """The largest between two of its tokens; 0: there was none."""
    gap_cause: str = ""
    """A `GapCause`; empty without a gap."""


class Account:
    """One request's, from when it enters the engine. All times are of one monotonic clock."""

    __slots__ = (
        "_alone_s",
        "_computing_beside_s",
        "_decode_beside_s",
        "_entered_s",
        "_first_token_s",
        "_gap",
        "_interference",
        "_lost_before_s",
        "_parks",
        "_phase",
        "_since_s",
        "_spent",
        "_tokens",
    )

    def __init__(self, now_s: float, interference: Interference) -> None:
        """`interference`: that of its engine's iterations."""
        self._interference = interference
        self._lost_before_s = 0.0
        """What decodes had lost when it began, or went on, to decode."""
        self._alone_s = math.inf
        """What its last chunk takes alone."""
        self._computing_beside_s = self._decode_beside_s = 0.0
        self._gap: Gap | None = None
        """The largest so far, up to when it last began to decode."""
        self._entered_s = now_s
        self._first_token_s: float | None = None
        self._phase = Phase.WAITING
        self._since_s = now_s
        self._spent = dict.fromkeys(Phase, 0.0)
        self._parks = False
        """Once what runs has ended, it is parked."""
        self._tokens = 0
        """How many it had when its prompt was last to be computed."""

    def launched(self, now_s: float, alone_s: float = math.inf) -> None:
        """An iteration starts with a chunk of its prompt, which would take `alone_s` without
        others; infinite where there are none."""
        self._parks = False
        if self._first_token_s is None:
            self._enter(Phase.COMPUTING, now_s)
            self._alone_s = alone_s

    def left_out(self, now_s: float) -> None:
        """An iteration starts without it, and its prompt is not complete."""
        if self._phase is Phase.COMPUTING:
            self._enter(Phase.PARKED if self._parks else Phase.WAITING, now_s)

    def parked(self, now_s: float) -> None:
        """Its prompt is paused, from the end of what runs."""
        self._parks = True
        if self._phase is Phase.WAITING:
            self._enter(Phase.PARKED, now_s)

    def generated(self, tokens: int, now_s: float) -> None:
        """It has so many tokens."""
        if tokens > self._tokens and self._phase is not Phase.DECODING:
            if self._first_token_s is None:
                self._first_token_s = max(now_s, self._since_s)
            self._enter(Phase.DECODING, now_s)

    def retracted(self, tokens: int, now_s: float) -> None:
        """Its KV was taken back, after so many tokens; its prompt is to be computed again."""
        self._tokens = tokens
        is_decode = self._first_token_s is not None
        self._enter(Phase.RETRACTED if is_decode else Phase.WAITING, now_s)

    def ended(self, now_s: float) -> EngineTimes:
        """The account, as of now."""
        self._enter(self._phase, now_s)
        spent, gap = self._spent, self._gap
        return EngineTimes(
            self._entered_s,
            spent[Phase.WAITING],
            spent[Phase.COMPUTING],
            spent[Phase.PARKED],
            self._first_token_s,
            spent[Phase.RETRACTED],
            self._since_s,
            self._computing_beside_s,
            self._decode_beside_s,
            0.0 if gap is None else gap.seconds,
            "" if gap is None else gap.cause.value,
        )

    def _enter(self, phase: Phase, now_s: float) -> None:
        now_s = max(now_s, self._since_s)
        spent_s, lost_s = now_s - self._since_s, self._interference.lost_s(now_s)
        self._spent[self._phase] += spent_s
        if self._phase is Phase.COMPUTING:
            self._computing_beside_s += max(0.0, spent_s - self._alone_s)
        elif self._phase is Phase.DECODING:
            self._decode_beside_s += min(spent_s, lost_s - self._lost_before_s)
            self._note(self._interference.largest_gap(self._since_s, now_s))
        elif self._phase is Phase.RETRACTED:
            self._note(Gap(spent_s, GapCause.RETRACTED))
        self._phase, self._since_s, self._lost_before_s = phase, now_s, lost_s

    def _note(self, gap: Gap | None) -> None:
        if gap is not None and (self._gap is None or gap.seconds > self._gap.seconds):
            self._gap = gap
