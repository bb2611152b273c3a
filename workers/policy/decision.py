"""What was decided about a request, as far as its owner would ask."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

from workers.policy.qos import RequestQos

TOO_LATE = "too late to be met"
"""Why a request is relegated that has missed its deadline, or will. The gateway knows this reason:
it follows from the job's lateness, and does not explain it."""


class DecisionKind(StrEnum):
    """STARTED, RESUMED and RETRACTED are the engine's to report: the policy only plans that a
    prompt runs."""

    STARTED = "started"
    """The first chunk of its prompt entered an iteration."""
    PARKED = "parked"
    """Its prefill was paused for a more urgent one; what was computed is kept."""
    RESUMED = "resumed"
    """Its prefill continues after it was parked."""
    RECLAIMED = "reclaimed"
    """Its KV was reclaimed for a more urgent request; everything is to be computed again."""
    RETRACTED = "retracted"
    """The engine took its KV back; its prompt and its answer so far are to be computed again."""
    RELEGATED = "relegated"
    """It will be served only when capacity is left."""
    RESTORED = "restored"
    """It is no longer relegated."""
    EXPIRED = "expired"
    """Its prefill had not started in time. The policy has dropped it; so must the engine."""


class Forecast(NamedTuple):
    """How a waiting request will fare, if nothing changes."""

    queue_wait_s: float
    """Until its prefill starts."""
    finish_s: float
    """When the token comes that its deadline is for: the first (interactive) or the last."""


@dataclass(frozen=True, slots=True)
class Decision:
    """One scheduling decision about one request: what, when, why, and on what forecast."""

    request_id: str
    kind: DecisionKind
    at_s: float
    reason: str = ""
    """A sentence for the job's history."""
    forecast: Forecast | None = None

    @classmethod
    def expired(
        cls, request_id: str, qos: RequestQos, at_s: float, forecast: Forecast | None = None
    ) -> Self:
        """The decision about a request with an expiry."""
        assert qos.expires_s is not None
        reason = f"prefill had not started {qos.expires_s - qos.arrival_s:g} s after arrival"
        return cls(request_id, DecisionKind.EXPIRED, at_s, reason, forecast)
