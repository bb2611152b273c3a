"""Where the time of one attempt at a job goes, from the job's arrival to the attempt's end.

Between two clocks there is one step, from the record's timestamp to when this worker read it. All
that follows is by the machine's monotonic clock, which the engine's processes share, so what is
added up here is what passed, whoever sets the clock meanwhile.
"""

from niyama.time_walk import walk
from schemas import GapCause, JobTimes
from workers.engine.port import GenerationUpdate
from workers.policy.account import EngineTimes

_DIGITS = 6
"""Microseconds."""

Parts = dict[str, float]
"""Seconds, by the names of `schemas.TimeParts`: plain, because every job has some."""
Steps = list[tuple[str, float | None]]
"""See `walk`: monotonic seconds."""


def waited(arrived_s: float, read_s: float, reading_since_s: float, attempt: int) -> Parts:
    """What came before the worker read the job's record; UTC epoch seconds.

    `reading_since_s`: since when it has read the partition without a pause. Which part of it an
    earlier attempt took is in the job's history; the worker does not know.
    """
    is_queue = attempt > 1 or arrived_s < reading_since_s
    return {"queue_s" if is_queue else "publish_s": max(0.0, read_s - arrived_s)}


class Timeline:
    """When an attempt got where. All times but those of `waited` are monotonic seconds."""

    __slots__ = (
        "_engine",
        "_first",
        "_largest_gap_s",
        "_last",
        "_read_s",
        "_submitted_s",
        "_waited",
    )

    def __init__(self, waited: Parts, read_s: float) -> None:
        self._waited = waited
        self._read_s = read_s
        self._submitted_s: float | None = None
        self._first: tuple[float, float] | None = None
        """When the first token was there, and when it was shown."""
        self._last: tuple[float, float] | None = None
        """Likewise of the last update."""
        self._engine: EngineTimes | None = None
        self._largest_gap_s: float | None = None
        """Between two updates with tokens, as they were shown."""

    @property
    def read_s(self) -> float:
        """When the worker read the job's record."""
        return self._read_s

    @property
    def submitted_s(self) -> float | None:
        """When the engine got the job."""
        return self._submitted_s

    @property
    def first_shown_s(self) -> float | None:
        """When the first token was shown."""
        return None if self._first is None else self._first[1]

    def submitted(self, now_s: float) -> None:
        """The job is given to the engine."""
        self._submitted_s = now_s

    def shown(self, update: GenerationUpdate, now_s: float) -> None:
        """An update of its generation is shown."""
        ready_s = now_s if update.ready_s is None else min(update.ready_s, now_s)
        if self._last is not None and update.token_ids:
            gap_s = now_s - self._last[1]
            self._largest_gap_s = max(self._largest_gap_s or 0.0, gap_s)
        self._last = (ready_s, now_s)
        if self._first is None and update.token_ids:
            self._first = self._last
        self._engine = update.engine_times or self._engine

    def times(self, ended_s: float) -> JobTimes:
        """Where the time has gone. The parts sum up to it, whatever the engine says."""
        last = self._last or (self._read_s, self._read_s)
        end: Steps = [("delivery_s", last[0]), ("paced_s", last[1]), ("delivery_s", None)]
        prompt = self._prompt(ended_s)
        if self._first is None:
            until_end, _ = _parts(self._waited, self._read_s, ended_s, prompt + end)
            return JobTimes.model_validate({"until_end": until_end})
        first: Steps = [("delivery_s", self._first[0]), ("paced_s", self._first[1])]
        until_first, now_s = _parts(self._waited, self._read_s, ended_s, prompt + first)
        until_end, _ = _parts({}, now_s, ended_s, self._decode(now_s, ended_s) + end)
        times = {"until_first_token": until_first, "until_end": until_end}
        return JobTimes.model_validate({**times, "gap_cause": self._gap_cause()})

    def _prompt(self, ended_s: float) -> Steps:
        """Until the first token was made. What the engine does not account for, it waited."""
        if self._submitted_s is None:
            return [("preparing_s", ended_s)]
        since_s, made_s = self._submitted_s, self._prompt_end_s(ended_s)
        steps: Steps = [("preparing_s", since_s)]
        if (engine := self._engine) is not None:
            beside_s = min(since_s + engine.computing_beside_s, made_s)
            computed_s = min(since_s + engine.computing_s, made_s)
            parked_s = min(computed_s + engine.parked_s, made_s)
            steps += [("beside_s", beside_s), ("computing_s", computed_s), ("parked_s", parked_s)]
        return [*steps, ("waiting_s", made_s)]

    def _decode(self, since_s: float, ended_s: float) -> Steps:
        """From the first token until the engine had made the last one."""
        made_s = self._engine_end_s(ended_s)
        if (engine := self._engine) is None:
            return [("decode_s", made_s)]
        retracted_s = min(since_s + engine.retracted_s, made_s)
        beside_s = min(retracted_s + engine.decode_beside_s, made_s)
        return [("retracted_s", retracted_s), ("beside_s", beside_s), ("decode_s", made_s)]

    def _gap_cause(self) -> GapCause | None:
        """Of the largest gap between two updates that were shown."""
        engine = self._engine
        if engine is None or self._largest_gap_s is None:
            return None
        if not engine.gap_cause or engine.gap_s < self._largest_gap_s / 2:
            return GapCause.DELIVERY
        return GapCause(engine.gap_cause)

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


def _parts(before: Parts, since_s: float, end_s: float, steps: Steps) -> tuple[Parts, float]:
    """The parts that took time, after those `before`; and how far `steps` have led."""
    seconds, now_s = walk(since_s, end_s, steps)
    rounded = {part: round(each, _DIGITS) for part, each in (before | seconds).items()}
    return {part: each for part, each in rounded.items() if each}, now_s
