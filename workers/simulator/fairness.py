"""How evenly a replica served its tenants."""

from collections.abc import Mapping, Sequence

from workers.policy.tenants import fair_share
from workers.simulator.outcome import Outcome


def by_tenant(outcomes: Sequence[Outcome]) -> dict[str, list[Outcome]]:
    tenants: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        tenants.setdefault(outcome.sim.request.qos.tenant, []).append(outcome)
    return tenants


def jains_index(outcomes: Sequence[Outcome], weights: Mapping[str, float]) -> float:
    """From 1 / tenants to 1: each has the same part of its fair share.

    Of tokens, prompts and answers, in requests that met everything; the fair shares are the max-min
    shares, by weight, of all such tokens (Jain, Chiu and Hawe, DEC TR-301, 1984).
    """
    asked: dict[str, float] = {}
    met: dict[str, float] = {}
    for tenant, theirs in by_tenant(outcomes).items():
        asked[tenant] = sum(map(_tokens, theirs))
        met[tenant] = sum(_tokens(o) for o in theirs if not o.missed_envelope())
    level = fair_share(asked, weights, sum(met.values()))
    parts = [met[tenant] / min(asked[tenant], level * weights.get(tenant, 1.0)) for tenant in asked]
    squares = sum(part * part for part in parts)
    return sum(parts) ** 2 / (len(parts) * squares) if squares else 1.0


def _tokens(outcome: Outcome) -> int:
    return outcome.sim.request.prompt_tokens + outcome.sim.output_tokens
