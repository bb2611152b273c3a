"""Speculative decoding: a decode may have several tokens of an iteration, as many as are accepted.

As in SGLang, drafts are not verified beside prompts: an iteration is of prompts or of decodes.
"""

import random
from array import array
from collections import deque
from collections.abc import Sequence, Set
from dataclasses import dataclass, field, replace

from workers.policy.plan import Chunk
from workers.policy.request import Request
from workers.simulator.engine import Engine, Launch, Running
from workers.simulator.laws import Work
from workers.simulator.outcome import Outcome
from workers.simulator.workload import SimRequest

_CONCENTRATION = 4.0
"""Of the Beta distribution of requests' tokens per step: with 2.5 of 4, a fifth of the requests
has less than 1.8 and a fifth more than 3.2."""
_HALVINGS = 30


@dataclass(frozen=True, slots=True)
class Drafts:
    """How many tokens steps of decodes yield. Proposing drafts costs no time."""

    mean: float
    """Tokens per step of a decode, its own one included: the mean over requests."""
    verified_tokens: int = 4
    """What a step computes of each decode: its last token and the draft."""

    def acceptance(self, chance: random.Random) -> float:
        """How likely each token of a draft is right, those before it being so, in one request.

        Requests differ by how many tokens their steps have.
        """
        most = self.verified_tokens - 1
        share = (self.mean - 1) / most if most else 0.0
        if not 0 < share < 1:
            return share
        drawn = chance.betavariate(_CONCENTRATION * share, _CONCENTRATION * (1 - share))
        low, high = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            tokens = sum(middle**i for i in range(1, self.verified_tokens))
            low, high = (middle, high) if tokens < most * drawn else (low, middle)
        return low


@dataclass(slots=True)
class _Answer:
    chance: random.Random
    """Of its own, so that it has the same tokens per step whatever the schedule."""
    acceptance: float
    tokens: int
    """When it is complete."""
    generated: int = 0
    kv_tokens: int = 0
    """KV of its generated tokens."""
    times: "array[float]" = field(default_factory=lambda: array("d"))
    """When each token came, but for those in flight."""


class DraftingEngine(Engine):
    """Every decode may have a number of tokens of its own of each iteration that has no prompts."""

    def __init__(self, kv_tokens: int, drafts: Drafts) -> None:
        super().__init__(kv_tokens)
        self._drafts = drafts
        self._answers: dict[str, _Answer] = {}
        self._in_flight: deque[list[tuple[str, _Answer, int]]] = deque()
        """Of each iteration in flight, who has how many tokens of it."""
        self._completed: list[str] = []
        """Prompts that are complete with the iteration that is launched."""

    def submit(self, sim: SimRequest) -> Request:
        request = super().submit(sim)
        chance = random.Random(sim.request.request_id)
        acceptance = self._drafts.acceptance(chance)
        self._answers[request.request_id] = _Answer(chance, acceptance, sim.output_tokens)
        return replace(request, prompt_mixes=False, decode_mixes=False)

    def launch(self, chunks: Sequence[Chunk], *, leaving: int = 0) -> Launch:
        steps = [] if chunks else [self._step(request_id) for request_id in self.decoding]
        context = self._decode_context
        tokens = sum(count for _, _, count in steps)
        self._decode_context += tokens
        self.memory.decoded(tokens)
        self._completed = []
        launch = self._launch_prompts(chunks, leaving=leaving)
        firsts = [(each, self._answers[each], 1) for each in self._completed]
        self._in_flight.append(steps + firsts)
        return launch._replace(
            work=self._work(launch, len(steps), context if steps else 0),
            accepted={request_id: max(0, count - 1) for request_id, _, count in steps},
        )

    def _work(self, launch: Launch, decodes: int, context: int) -> Work:
        return Work(launch.work.prompts, decodes, context, self._drafts.verified_tokens)

    def _step(self, request_id: str) -> tuple[str, _Answer, int]:
        """How many tokens a decode has of the next iteration: none if it is complete already."""
        answer = self._answers[request_id]
        count = 1
        while count < self._drafts.verified_tokens and answer.chance.random() < answer.acceptance:
            count += 1
        count = min(count, answer.tokens - answer.generated)
        answer.generated += count
        answer.kv_tokens += count
        return request_id, answer, count

    def end(self, end_s: float) -> list[str]:
        finished = []
        for request_id, answer, count in self._in_flight.popleft():
            answer.times.extend([end_s] * count)
            if count and len(answer.times) == answer.tokens:
                finished.append(request_id)
        return finished

    def finish(self, request_id: str) -> Outcome:
        running = self.requests.pop(request_id)
        del self.decoding[request_id]
        self._let_go(running)
        running.outcome.token_times = [self._answers.pop(request_id).times]
        running.outcome.score()
        return running.outcome

    def pause_only(self, request_ids: Set[str]) -> None:
        """Beside prompts they are anyway."""

    # ---- what the engine asks of a decode

    def _join_decodes(self, running: Running) -> None:
        request_id = running.sim.request.request_id
        self._answers[request_id].generated += 1
        self._decode_context += running.prefill.computed_tokens
        self.decoding[request_id] = running
        self._completed.append(request_id)

    def _ending(self) -> set[str]:
        in_flight = self._in_flight[0] if self._in_flight else []
        return {name for name, answer, _ in in_flight if answer.generated == answer.tokens}

    @property
    def _step_kv_tokens(self) -> int:
        return self._drafts.verified_tokens

    def _generated(self, running: Running) -> int:
        return self._answers[running.sim.request.request_id].generated

    def _decoded(self, running: Running) -> int:
        return self._answers[running.sim.request.request_id].kv_tokens

    def _interrupt(self, running: Running) -> None:
        answer = self._answers[running.sim.request.request_id]
        running.prefill.generated_tokens = answer.generated
        answer.kv_tokens = 0
