"""When an interactive request's tokens are due, and when the reader may see them."""

from workers.policy.release import Release
from workers.policy.request import Prefill
from workers.policy.settings import Settings, TokenTiming


def hold_share(pressure: float, settings: Settings) -> float:
    """Share of a request's spare TTFT for which its first token is held back, 0 to 1.

    Linear in the pressure (`Lookahead.pressure`) from `hold_from` to `hold_full`: tokens are shown
    at once until deadlines are at stake; then the replica uses the time that the SLO allows.
    """
    span = settings.hold_full - settings.hold_from
    return min(1.0, max(0.0, (pressure - settings.hold_from) / span))


def schedule(
    prefill: Prefill, first_token_s: float, pressure: float, settings: Settings
) -> tuple[float | None, Release | None]:
    """(when the next token is due, how the tokens are shown) for a prompt that just completed.

    A due time of None means TBT after whatever iteration came before: an unpaced true gap.
    """
    qos = prefill.request.qos
    if settings.timing is TokenTiming.ENVELOPE:
        return qos.deadline_s + (prefill.generated_tokens + 1) * qos.tbt_s, None
    share = hold_share(pressure, settings)
    if settings.timing is TokenTiming.GAPS or share == 0 or prefill.generated_tokens:
        return None, None
    # Two gaps short of the deadline, so that a late token still meets it.
    left_s = qos.deadline_s - 2 * qos.tbt_s - first_token_s
    first_s = first_token_s + share * max(0.0, left_s)
    return first_s + qos.tbt_s, Release(first_s, qos.tbt_s)
