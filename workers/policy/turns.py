"""Taking turns, where prompts and decodes are not computed in one iteration.

SGLang leaves decodes out of a batch of prompts when one of them wants log probabilities, for some
other features, and whenever mixed chunks are off. And the policy leaves them out where that takes
less time: engines have fast paths for decodes alone. Decodes then wait until an iteration has no
prompts in it, so how long they wait is up to the plan.
"""

from enum import Enum, auto
from typing import NamedTuple

from workers.latency.model import LatencyModel
from workers.policy.calibration import Calibration
from workers.policy.decodes import DecodeLoad
from workers.policy.settings import Settings
from workers.policy.time_limit import Situation, time_limit_s

_WORTH_APART = 1.15
"""One iteration has to take this much longer than two: less may be an error of the model."""


class Way(Enum):
    """How prompts and decodes are computed."""

    TOGETHER = auto()
    APART = auto()


class Limit(NamedTuple):
    """How much an iteration with prompts in it may compute."""

    time_s: float
    """In the uncorrected model's seconds."""
    min_tokens: int
    """Prompt tokens that it may compute even where they take longer."""


def are_faster_apart(
    tokens: int,
    context: int,
    decodes: DecodeLoad,
    together: LatencyModel,
    apart: LatencyModel | None = None,
) -> bool:
    """Whether a chunk after `context` tokens and the decodes take less time in two iterations.

    SGLang's CPU backend computes the whole context of a decode anew beside a prompt, and engines
    replay a recorded graph only for decodes alone. The weights, on the other hand, are read twice.
    `together` and `apart` are the models of both ways; without `apart` it is the same.
    """
    apart = apart or together
    if not decodes.decodes:
        return False
    mixed_s = together.iteration_s(tokens, context, *decodes)
    apart_s = apart.iteration_s(tokens, context, 0, 0) + apart.iteration_s(0, 0, *decodes)
    return mixed_s > _WORTH_APART * apart_s


def should_try_turns(
    at: Situation, beside: Limit, calibration: Calibration, settings: Settings
) -> bool:
    """Whether to find out what prompts and decodes take apart: together they take too long."""
    return (
        at.decodes.decodes > 0
        and beside.min_tokens > 0
        and not has_time_beside(at, beside, calibration, settings)
        and calibration.should_try_decodes_alone()
    )


def way_to_try(
    at: Situation, beside: Limit, calibration: Calibration, settings: Settings
) -> Way | None:
    """How the next iteration with prompts is computed to find out; None: as seems faster."""
    if should_try_turns(at, beside, calibration, settings):
        return Way.APART
    in_time = has_time_beside(at, beside, calibration, settings)
    return Way.TOGETHER if calibration.sharing.should_probe(in_time=in_time) else None


def has_time_beside(
    at: Situation, beside: Limit, calibration: Calibration, settings: Settings
) -> bool:
    """Whether the smallest chunk and the decodes together keep the limit, as is believed."""
    least_s = calibration.corrected.iteration_s(settings.min_chunk_tokens, 0, *at.decodes)
    return least_s <= beside.time_s


def beside_decodes(at: Situation, calibration: Calibration, settings: Settings) -> Limit:
    """Prompts, and all decodes with them."""
    limit_s = time_limit_s(at, calibration, settings)
    return Limit(limit_s, settings.min_chunk_tokens if limit_s else 0)


def between_decodes(at: Situation, calibration: Calibration, settings: Settings) -> Limit:
    """Prompts alone, after which the decodes still come in time.

    From one turn of the decodes to the next is what a mixed iteration could take. Of this, the
    decodes need their own iteration, and a part has passed. As in mixed iterations, prompts
    advance by `min_chunk_tokens` even when no time is left, but once between two turns: what is
    left after that is used only if it is enough for as many. However much slack there is, a turn
    is no longer than a full chunk takes, as in mixed iterations.
    """
    if not at.decodes.decodes:
        return beside_decodes(at, calibration, settings)
    model, chunk_tokens = calibration.corrected, settings.min_chunk_tokens
    # There is nothing to alternate with: decodes have iterations of their own anyway.
    at_last_turn = at._replace(now_s=at.decoded_s, waiting_work=0.0)
    turn_s = time_limit_s(at_last_turn, calibration, settings)
    turn_s -= model.iteration_s(0, 0, *at.decodes)
    longest_s = model.iteration_s(settings.max_chunk_tokens, at.prefill_context, 0, 0)
    left_s = min(turn_s, longest_s) - (at.now_s - at.decoded_s)
    if not at.decodes_wait:
        return Limit(left_s, chunk_tokens)
    smallest_s = model.iteration_s(chunk_tokens, at.prefill_context, 0, 0)
    return Limit(left_s, 0) if left_s >= smallest_s else Limit(0.0, 0)
