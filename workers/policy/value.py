"""What it is worth to meet a request, beside others: operators say so."""

from workers.policy.qos import RequestQos
from workers.policy.settings import Settings


def weight_of(qos: RequestQos, settings: Settings) -> float:
    """The weight of a request of this class, importance and tenant; 1 unless it is set otherwise.

    In overload a request with a weight of 2 yields like one of half its size: what is kept in the
    end is the most weight, not the most requests.
    """
    weight = dict(settings.tenant_weights).get(qos.tenant, 1.0) if settings.tenant_weights else 1.0
    if qos.is_interactive:
        weight *= settings.interactive_weight
    if not qos.is_important:
        weight *= settings.low_importance_weight
    return weight
