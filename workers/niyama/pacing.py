"""When an interactive request's tokens are due, and when the reader may see them."""

from workers.niyama.plan import Release
from workers.niyama.request import Prefill
from workers.niyama.settings import Settings, TokenTiming


def hold_share(backlog_s: float, settings: Settings) -> float:
    """Share of a request's spare TTFT for which its first token is held back, 0 to 1.

    Linear in the backlog between `hold_from_s` and `hold_full_s`: an idle replica shows every
    token at once, a loaded one uses the time that the SLO allows it anyway.
    """
    span_s = settings.hold_full_s - settings.hold_from_s
    return min(1.0, max(0.0, (backlog_s - settings.hold_from_s) / span_s))


def schedule(
    prefill: Prefill, first_token_s: float, backlog_s: float, settings: Settings
) -> tuple[float | None, Release | None]:
    """(when the next token is due, how the tokens are shown) for a prompt that just completed.

    A due time of None means TBT after whatever iteration came before: an unpaced true gap.
    """
    request = prefill.request
    assert request.tbt_s is not None
    if settings.timing is TokenTiming.ENVELOPE:
        return request.deadline_s + (prefill.generated_tokens + 1) * request.tbt_s, None
    share = hold_share(backlog_s, settings)
    if settings.timing is TokenTiming.GAPS or share == 0 or prefill.generated_tokens:
        return None, None
    first_s = first_token_s + share * max(0.0, request.deadline_s - first_token_s)
    return first_s + request.tbt_s, Release(request.request_id, first_s, request.tbt_s)
