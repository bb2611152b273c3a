"""How long the next iteration may take, so that the tokens of running decodes come in time."""

import math
from typing import NamedTuple, Self

from workers.policy.calibration import Calibration
from workers.policy.decodes import DecodeLoad, MostUrgent
from workers.policy.settings import Alternation, Settings


class Situation(NamedTuple):
    """What the time limit of an iteration depends on, beside what was learned and set."""

    now_s: float
    decodes: DecodeLoad
    urgent: MostUrgent | None
    """The decode whose next token is due first, of those that have a schedule."""
    gap_due_s: float
    """When the next token is due of decodes whose every gap counts; infinity without any."""
    waiting_work: float
    """Prefill-equivalent tokens that could be computed now."""
    prefill_context: int
    """Tokens computed of the longest prompt in progress."""
    decoded_s: float = 0.0
    """When the running decodes had their last tokens."""
    decodes_wait: bool = False
    """Prompts have been computed without them since."""

    def mixed(self, decodes: DecodeLoad) -> Self:
        """The same in an iteration with prompts, where each decode has one token."""
        urgent = self.urgent._replace(step_tokens=1.0) if self.urgent else None
        return self._replace(decodes=decodes, urgent=urgent)


def time_limit_s(at: Situation, calibration: Calibration, settings: Settings) -> float:
    """How long the iteration may take, seconds; 0: decodes alone."""
    limit_s = _slack_limit_s(at, calibration, settings)
    if at.gap_due_s == math.inf:
        return limit_s
    margin = calibration.margin(settings.in_time_quantile)
    return min(limit_s, (at.gap_due_s - at.now_s) / margin)


def _slack_limit_s(at: Situation, calibration: Calibration, settings: Settings) -> float:
    """The most urgent decode's slack, spent evenly over the tokens that it still has to come.

    Answers end sooner than expected as often as not, and slack that is left is lost: so over
    the expected length, and over `slack_spread_tokens` where that is less.
    """
    if at.urgent is None or at.urgent.due_s == math.inf:
        return math.inf
    slack_s = at.urgent.due_s - at.now_s
    margin = max(settings.slack_margin, calibration.margin(settings.in_time_quantile))
    affordable_s = slack_s / margin
    if not settings.slack_spread_tokens:
        return affordable_s
    tokens = min(float(settings.slack_spread_tokens), max(1.0, at.urgent.tokens_to_come))
    steps = max(1.0, tokens / at.urgent.step_tokens)
    equal_s = at.urgent.step_tokens * at.urgent.pace_s + slack_s / steps
    step_s = _large_step_s(equal_s, at, calibration, settings) if slack_s > 0 else None
    if step_s is None:
        return min(equal_s, affordable_s)
    return step_s if step_s <= affordable_s else 0.0


def _large_step_s(
    mean_s: float, at: Situation, calibration: Calibration, settings: Settings
) -> float | None:
    """See `LatencyModel.large_step_s`; None unless enough waits to fill a large batch.

    Infinity, which no slack affords, for a trial of decodes alone.
    """
    if at.waiting_work < calibration.model.split_tokens or settings.alternation is Alternation.OFF:
        return None
    measured = settings.alternation is Alternation.MEASURED
    if measured and calibration.knows_large_batches and calibration.should_try_decodes_alone():
        return math.inf
    model = calibration.measured_model() if measured else calibration.corrected
    if model is None:
        return None
    return model.large_step_s(
        mean_s, at.prefill_context, *at.decodes, max_tokens=settings.max_chunk_tokens
    )
