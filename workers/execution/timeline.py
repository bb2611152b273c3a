"""Where the time of one attempt at a job goes, from the job's arrival to the attempt's end.

Between two clocks there is one step, from the record's timestamp to when this worker read it. All
that follows is by the machine's monotonic clock, which the engine's processes share, so what is
added up here is what passed, whoever sets the clock meanwhile.
"""

from schemas import JobTimes
from workers.engine.port import GenerationUpdate
from workers.policy.account import EngineTimes

_DIGITS = 6
"""Microseconds."""


Parts = dict[str, float]
"""Seconds, by the names of `schemas.TimeParts`: plain, because every job has some."""


def waited(arrived_s: float, read_s: float, reading_since_s: float, attempt: int) -> Parts:
    """What came before the worker read the job's record; UTC epoch seconds.

    `reading_since_s`: since when it has read the partition without a pause. Which part of it an
    earlier attempt took is in the job's history; the worker does not know.
    """
    is_queue = attempt > 1 or arrived_s < reading_since_s
    return {"queue_s" if is_queue else "publish_s": max(0.0, read_s - arrived_s)}


class Timeline:
    """When an attempt got where. All times but those of `waited` are monotonic seconds."""

    __slots__ = ("_engine", "_first", "_last", "_read_s", "_submitted_s", "_waited")

    def __init__(self, waited: Parts, read_s: float) -> None:
        self._waited = waited
        self._read_s = read_s
        self._submitted_s: float | None = None
        self._first: tuple[float, float] | None = None
        """When the first token was there, and when it was shown."""
        self._last: tuple[float, float] | None = None
        """Likewise of the last update."""
        self._engine: EngineTimes | None = None

    def submitted(self, now_s: float) -> None:
        """The job is given to the engine."""
        self._submitted_s = now_s

    def shown(self, update: GenerationUpdate, now_s: float) -> None:
        """An update of its generation is shown."""
        ready_s = now_s if update.ready_s is None else min(update.ready_s, now_s)
        self._last = (ready_s, now_s)
        if self._first is None and update.token_ids:
            self._first = self._last
        self._engine = update.engine_times or self._engine

    def times(self, ended_s: float) -> JobTimes:
        """Where the time has gone. The parts sum up to it, whatever the engine says."""
        before, after = _Walk(self._read_s, ended_s, self._waited), None
        before.until("preparing_s", ended_s if self._submitted_s is None else self._submitted_s)
        before.in_engine(self._prompt_end_s(ended_s), self._engine)
        if self._first is not None:
            before.shown(*self._first)
            after = _Walk(before.now_s, ended_s, {})
            after.decoding(self._engine_end_s(ended_s), self._engine)
        rest = after or before
        if self._last is not None:
            rest.shown(*self._last)
        rest.until("delivery_s", ended_s)
        first = None if after is None else before.rounded()
        times = {"until_first_token": first, "until_end": rest.rounded()}
        return JobTimes.model_validate(times)

    def _prompt_end_s(self, ended_s: float) -> float:
        """When the engine had made the first token, or had ended the request."""
        if self._first is None:
            return self._engine_end_s(ended_s)
        made_s = self._engine and self._engine.first_token_s
        return self._first[0] if made_s is None else min(made_s, self._first[0])

    def _engine_end_s(self, ended_s: float) -> float:
        if self._engine is not None:
            return self._engine.ended_s
        return ended_s if self._last is None else self._last[0]


class _Walk:
    """Goes through a time once, and counts each moment as one part."""

    __slots__ = ("_end_s", "_seconds", "now_s")

    def __init__(self, now_s: float, end_s: float, before: Parts) -> None:
        self.now_s = now_s
        self._end_s = max(now_s, end_s)
        self._seconds = dict(before)

    def until(self, part: str, to_s: float) -> None:
        """Count what is left until `to_s` as `part`."""
        self._add(part, self._go_to(to_s))

    def in_engine(self, to_s: float, engine: EngineTimes | None) -> None:
        """Count a prompt's time until `to_s`; what the engine does not account for, it waited."""
        left_s = self._go_to(to_s)
        if engine is not None:
            left_s -= self._add("computing_s", min(left_s, engine.computing_s))
            left_s -= self._add("parked_s", min(left_s, engine.parked_s))
        self._add("waiting_s", left_s)

    def decoding(self, to_s: float, engine: EngineTimes | None) -> None:
        """Count what is left until `to_s`, when the engine had made the last token."""
        left_s = self._go_to(to_s)
        if engine is not None:
            left_s -= self._add("retracted_s", min(left_s, engine.retracted_s))
        self._add("decode_s", left_s)

    def shown(self, ready_s: float, shown_s: float) -> None:
        """Count the way of a token to its reader."""
        self.until("delivery_s", ready_s)
        self.until("paced_s", shown_s)

    def rounded(self) -> Parts:
        """What took time."""
        return {part: s for part, each in self._seconds.items() if (s := round(each, _DIGITS))}

    def _add(self, part: str, seconds: float) -> float:
        if seconds:
            self._seconds[part] = self._seconds.get(part, 0.0) + seconds
        return seconds

    def _go_to(self, to_s: float) -> float:
        now_s = self.now_s
        if to_s <= now_s:
            return 0.0
        self.now_s = to_s if to_s < self._end_s else self._end_s  # every job does this ten times
        return self.now_s - now_s
