"""What became of one request, and whether it counts as a violation, in three ways of scoring."""

from array import array

import numpy

from workers.policy.decision import Decision, DecisionKind
from workers.policy.release import Release
from workers.simulator.workload import SimRequest

INFINITE_S = float("inf")
CLOCK_ERROR_S = 1e-6
"""Paced gaps equal the TBT exactly; sums of floats do not."""

Times = numpy.ndarray[tuple[int], numpy.dtype[numpy.float64]]


class Outcome:
    """Filled while the request runs; `score` closes it."""

    __slots__ = (
        "envelope_late_s",
        "first_token_s",
        "gaps",
        "last_token_s",
        "late_gaps",
        "longest_gap_s",
        "release",
        "relegated",
        "sim",
        "token_times",
        "tokens_in_time",
    )

    def __init__(self, sim: SimRequest) -> None:
        self.sim = sim
        self.token_times: list[array[float]] = []
        self.first_token_s = INFINITE_S
        self.last_token_s = INFINITE_S
        self.envelope_late_s = INFINITE_S
        """Most that any token is behind arrival + TTFT + (n - 1) * TBT; negative is early."""
        self.gaps = 0
        self.late_gaps = 0
        self.longest_gap_s = 0.0
        self.tokens_in_time = 0
        """Of an answer that limits gaps, tokens that are not behind arrival + TTFT + (n - 1) * TBT;
        of any other, and of a task, all tokens, or none when the last is late."""
        self.relegated = False
        self.release: Release | None = None

    def note(self, decision: Decision) -> None:
        if decision.kind is DecisionKind.RELEGATED:
            self.relegated = True
        elif decision.kind is DecisionKind.RESTORED:
            self.relegated = False

    def score(self) -> None:
        """Turn the token times into figures, as the user sees them, and forget them."""
        qos = self.sim.request.qos
        self.first_token_s = self.token_times[0][0]
        self.last_token_s = self.token_times[-1][-1]
        if qos.limits_gaps:
            times = numpy.concatenate([numpy.asarray(part) for part in self.token_times])
            self._score_tokens(_released(times, self.release), qos.tbt_s)
        elif not self.missed_first_or_last() and not self.sim.calls_left:
            self.tokens_in_time = self.sim.tokens
        self.token_times = []

    def _score_tokens(self, times: Times, tbt_s: float) -> None:
        self.first_token_s, self.last_token_s = float(times[0]), float(times[-1])
        schedule = times - tbt_s * numpy.arange(len(times))
        self.envelope_late_s = float(schedule.max()) - self.sim.request.qos.deadline_s
        self.tokens_in_time = int(
            (schedule <= self.sim.request.qos.deadline_s + CLOCK_ERROR_S).sum()
        )
        if len(times) > 1:
            gaps = times[1:] - times[:-1]
            self.gaps = len(gaps)
            self.late_gaps = int((gaps > tbt_s + CLOCK_ERROR_S).sum())
            self.longest_gap_s = float(gaps.max())

    @property
    def finished(self) -> bool:
        return self.last_token_s < INFINITE_S

    def latency_s(self) -> float:
        """From arrival to the token that the deadline is for; infinity while unfinished.

        Of a task from the arrival of its first call.
        """
        return self._deciding_token_s() - self.sim.arrival_s

    def missed_first_or_last(self) -> bool:
        """The token that the deadline is for, the first or the last, came after it."""
        return self._deciding_token_s() > self.sim.request.qos.deadline_s

    def missed_envelope(self) -> bool:
        """Any token behind its deadline, as the paper scores."""
        if self.sim.request.qos.limits_gaps:
            return self.envelope_late_s > 0
        return self.missed_first_or_last()

    def _deciding_token_s(self) -> float:
        """When the token came that the deadline is for."""
        if self.sim.request.qos.deadline_is_first_token:
            return self.first_token_s
        return self.last_token_s


def _released(times: Times, release: Release | None) -> Times:
    """When each token is shown: never before it exists, nor before its paced turn."""
    if release is None or release.pace_s == 0:
        return times
    turns = release.pace_s * numpy.arange(len(times))
    earliest: Times = numpy.maximum.accumulate(numpy.append(release.first_s, times - turns))[1:]
    shown: Times = earliest + turns
    return shown
