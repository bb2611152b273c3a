"""How a waiting request will fare, if nothing changes."""

from workers.policy.decision import Forecast
from workers.policy.learning import Learning
from workers.policy.pacing import expected_tbt_s
from workers.policy.request import Prefill
from workers.policy.settings import Settings


def forecast(
    prefill: Prefill, queue_wait_s: float, now_s: float, learned: Learning, settings: Settings
) -> Forecast:
    """The forecast of a request that waits `queue_wait_s` and then runs without a pause."""
    finish_s = now_s + queue_wait_s + prefill.own_tokens / learned.tokens_per_s
    if not prefill.request.qos.deadline_is_first_token:
        to_come = learned.lengths.to_come(prefill.request, prefill.generated_tokens)
        finish_s += to_come * expected_tbt_s(prefill.request.qos, settings)
    return Forecast(queue_wait_s, finish_s)


def forecast_last(
    prefill: Prefill, backlog_s: float, now_s: float, learned: Learning, settings: Settings
) -> Forecast:
    """The forecast of a request after all other work; `backlog_s` includes its own."""
    own_s = learned.work(prefill) / learned.tokens_per_s
    return forecast(prefill, max(0.0, backlog_s - own_s), now_s, learned, settings)
