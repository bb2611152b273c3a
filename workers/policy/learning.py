"""What the policy has learned: how long iterations take, what gets done, how long answers are."""

from workers.latency.fit import Sample
from workers.latency.model import LatencyModel
from workers.policy.calibration import Calibration
from workers.policy.decode_length import DecodeLengths
from workers.policy.decodes import Decodes
from workers.policy.lookahead import NOTHING, Decoding
from workers.policy.request import Prefill, Request
from workers.policy.settings import Settings
from workers.policy.step_tokens import StepTokens
from workers.policy.tasks import Tasks
from workers.policy.throughput import Throughput

_MEMORY_BOUND_S = 60.0
"""The time of iterations that `Learning.memory_bound` covers."""


class Learning:
    """Estimates of iterations, of work and of answers, corrected by what is observed of them."""

    def __init__(self, latency: LatencyModel, settings: Settings, verified_tokens: int = 1) -> None:
        """Each decode computes `verified_tokens` in an iteration."""
        self.verified_tokens = verified_tokens
        self.step_tokens = StepTokens()
        self.calibration = Calibration(latency, correct=settings.calibrate)
        self.lengths = DecodeLengths(learn=settings.learn_answer_lengths)
        self.memory_bound = 0.0
        """Of the time of recent iterations, the share in which memory alone kept prompts out."""
        self._throughput = Throughput(latency)
        self._tasks = Tasks()
        self._settings = settings

    # ---- estimates

    @property
    def tokens_per_s(self) -> float:
        """Prefill-equivalent tokens that the replica gets done."""
        return self._throughput.tokens_per_s

    @property
    def prefill_token_s(self) -> float:
        """Time of one prompt token in a large batch, corrected."""
        return self.calibration.corrected.prompt_token_s

    def work(self, prefill: Prefill) -> float:
        """Prefill-equivalent tokens that the request still costs, its answer included."""
        request = prefill.request
        steps = self.lengths.to_come(request, prefill.generated_tokens) / self.step_tokens.mean
        decode_tokens = steps * self.verified_tokens
        work = self._throughput.work(prefill.own_tokens, decode_tokens, request.prompt_tokens)
        return work if self._settings.discount_cached_prefixes else work + request.cached_tokens

    def decoding(self, decodes: Decodes) -> Decoding:
        """What the running decodes still cost, if they go on at the pace that is asked of them."""
        if not decodes:
            return NOTHING
        count, context = decodes.load
        token = self._throughput.work(0, count, context / count) / len(decodes)
        token /= self.step_tokens.mean
        tokens_per_s = decodes.tokens_per_s(
            self.calibration.corrected.iteration_s(0, 0, count, context)
        )
        return Decoding(max(0.0, decodes.tokens_to_come) * token, tokens_per_s * token)

    def shared(self, request: Request, now_s: float) -> Request:
        """A request that is new; if it is a call of a task, with its share of the task's time."""
        if request.qos.task is None or not self._settings.share_tasks:
            return request
        prompt_tokens = max(1, request.prompt_tokens - request.cached_tokens)
        answer_s = self.lengths.expected(request) * self._settings.deadline_tbt_s
        call_s = prompt_tokens * self.prefill_token_s + answer_s
        return self._tasks.arrived(request, now_s, call_s)

    # ---- observations

    def answered(self, request: Request, now_s: float) -> None:
        """The answer to a request has ended."""
        self._tasks.answered(request, now_s)

    def iteration(self, ran: Sample, *, full: bool) -> None:
        """What an iteration took. `full`: more prompts were waiting than fit.

        One in which nothing was computed, planned though it was, says nothing.
        """
        if not ran.prefill_tokens and not ran.decodes:
            return
        self.calibration.observe(ran)
        if full:
            self._throughput.observe(ran)

    def planned(self, duration_s: float, *, lacks_memory: bool) -> None:
        """An iteration expects to take so long; memory and not time keeps prompts out of it."""
        weight = min(1.0, duration_s / _MEMORY_BOUND_S)
        self.memory_bound += weight * (lacks_memory - self.memory_bound)

    def use(self, latency: LatencyModel) -> None:
        """Continue with another latency model."""
        self.calibration = self.calibration.refitted(latency)
        self._throughput.use(latency)
