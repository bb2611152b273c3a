"""The Niyama policy: which prompts, and how much of them, join the decodes in each iteration."""

from collections.abc import Callable, Mapping

from workers.latency.fit import Sample
from workers.latency.model import NO_CHUNKS, LatencyModel
from workers.policy.backlog import Backlog
from workers.policy.batch import PrefillBatch
from workers.policy.calibration import Calibration
from workers.policy.decodes import DecodeLoad, Decodes
from workers.policy.learning import Learning
from workers.policy.limits import ANY_PROMPTS, PlanLimits
from workers.policy.load import QueueLoad, queue_load
from workers.policy.memory import Memory, victims_for_decodes
from workers.policy.next_in_line import NextInLine
from workers.policy.pacing import Circumstances, decode_schedule, just_enough
from workers.policy.plan import IterationPlan, IterationResult
from workers.policy.planning import Planning
from workers.policy.release import Release
from workers.policy.request import Prefill, Request
from workers.policy.review import Review
from workers.policy.settings import Settings
from workers.policy.time_limit import Situation
from workers.policy.turns import (
    Limit,
    Way,
    are_faster_apart,
    beside_decodes,
    between_decodes,
    way_to_try,
)

_LEAST_ITERATION = 2.5
"""What an iteration takes at least for the sake of an answer's deadline, in times of the decodes
alone: prompts have 60% of it."""


class NiyamaPolicy:
    """One replica's scheduler. Holds the whole queue; all times are on the caller's clock.

    `plan` and `observe` alternate. What they ask is answered elsewhere: how long (`time_limit`),
    who (`selection`), with which memory (`memory`).
    """

    def __init__(
        self,
        latency: LatencyModel,
        settings: Settings | None = None,
        limits: PlanLimits | None = None,
        verified_tokens: int = 1,
        salt: bytes = b"",
    ) -> None:
        """`verified_tokens`: what each decode computes in an iteration without prompts; more than 1
        with drafts. `salt`: see `ranking.rank_of`; the same on all ranks of a scheduler.
        """
        self.settings = settings or Settings()
        self._limits = limits or PlanLimits()
        verified_tokens = verified_tokens if self.settings.count_drafts else 1
        self._learned = Learning(latency, self.settings, verified_tokens)
        self._backlog = Backlog(self.settings, self._learned, salt)
        self._review = Review(self._backlog, self._learned, self.settings, self._limits)
        self._decodes = Decodes(self._learned)
        self._decoded_s = 0.0
        """When the running decodes had their last tokens."""
        self._decodes_wait = False
        """Prompts have been computed without them since."""
        self._batch: PrefillBatch | None = None
        """What was planned last."""
        self._planning: Planning | None = None
        """How it was planned."""
        self._way_to_try: Way | None = None
        """By that plan, if it has prompts."""

    @property
    def calibration(self) -> Calibration:
        return self._learned.calibration

    @property
    def decodes(self) -> int:
        """Requests that are generating."""
        return len(self._decodes)

    def backlog_s(self) -> float:
        """See `Backlog.work_s`; for tests and debugging: 0 once every request has left."""
        return self._backlog.work_s

    @property
    def tokens_per_step(self) -> float:
        """Of all decodes on average; more than 1 where drafts are accepted."""
        return self._learned.step_tokens.mean

    # ---- what happens to requests

    def add(self, request: Request, now_s: float) -> None:
        self._backlog.arrive(self._learned.shared(request, now_s), now_s)

    def abort(self, request_id: str) -> None:
        if request_id in self._decodes:
            self._decodes.remove(request_id)
        self._backlog.leave(request_id)

    def retract(self, request_id: str, now_s: float) -> None:
        """The engine retracted a request: it waits again.

        Requests that have no KV, and unknown ones, are ignored.
        """
        if request_id in self._decodes:
            self._backlog.requeue(Prefill.of_retracted(*self._decodes.remove(request_id)), now_s)
            return
        prefill = self._backlog.started.get(request_id)
        if prefill is not None and prefill.has_kv:
            prefill.lose_kv()
            self._backlog.requeue(prefill, now_s)

    def correct(self, request_id: str, *, held_tokens: int, remaining_tokens: int) -> None:
        """The engine's own count of a prompt: tokens it holds or has cached, tokens to compute.

        Ids that are no prompts here are ignored.
        """
        self._backlog.correct(request_id, held_tokens, remaining_tokens)

    def found_cached(self, request_id: str, cached_tokens: int, now_s: float) -> None:
        """So much of a waiting prompt is in the prefix cache; other ids are ignored."""
        prefill = self._backlog.get(request_id)
        if prefill is not None and request_id not in self._backlog.started:
            prefill.found_cached(cached_tokens)
            self._backlog.prefixes.matched(prefill)
            self._backlog.requeue(prefill, now_s)

    def clock_stepped(self, now_s: float, step_s: float) -> None:
        """The caller's clock was set by `step_s`, and shows `now_s` now.

        Deadlines stay where they are. The schedules of running decodes move with the clock:
        their readers have not noticed anything.
        """
        self._decoded_s += step_s
        self._decodes.clock_stepped(step_s)
        self._backlog.clock_stepped(now_s)

    # ---- planning

    def plan(
        self, now_s: float, free_kv_tokens: int, most_prompts: int = ANY_PROMPTS
    ) -> IterationPlan:
        """The engine computes `most_prompts` at once: it limits the requests that run."""
        backlog, limits = self._backlog, self._limits
        backlog.expire(now_s, limits.decisions)
        self._review.run(now_s, self._learned.decoding(self._decodes))
        batch = self._batch = self._new_batch(now_s, free_kv_tokens)
        planning = self._planning = Planning(
            backlog, batch, self._learned, self.settings, limits, now_s, most_prompts
        )
        victims = victims_for_decodes(batch.memory, backlog.started.values())
        planning.reclaim_kv(victims, "memory for running decodes")
        planning.fill()
        self._note_way(batch)
        predicted_s = batch.predicted_s()
        # Where the time is used up, it was time that kept prompts out, whatever found no room.
        lacks_memory = planning.lacks_memory and not batch.full
        self._learned.planned(predicted_s, lacks_memory=lacks_memory)
        backlog.expire(now_s, limits.further_expiries(len(batch.chunks)))
        backlog.journal.planned(batch.chunks, backlog.started, unfinished=batch.full, now_s=now_s)
        return IterationPlan(
            chunks=tuple(batch.chunks),
            predicted_s=predicted_s,
            reclaim_kv=tuple(batch.reclaimed),
            decodes_wait=self._decodes.mix and batch.leaves_decodes_out,
            full=planning.is_full,
            decisions=backlog.journal.take(),
        )

    def next_in_line(self, count: int) -> list[str]:
        """At most `count` prompts that could take the place of planned ones, in their order.

        For engines that find that a planned prompt is not ready. Those in progress come first.
        Where decodes take part, none is among them that would keep the decodes out.
        """
        return self._planning.next_in_line(count) if self._planning is not None else []

    def _new_batch(self, now_s: float, free_kv_tokens: int) -> PrefillBatch:
        situation = self._situation(now_s)
        # Whatever kept the decodes from the last iteration, they get the next in time.
        mixes = self._decodes.mix and not self._decodes_wait
        learned = (self.calibration, self.settings)
        mixed = self._decodes.mixed_load
        at_mixed = situation.mixed(mixed)
        beside = beside_decodes(at_mixed, *learned) if mixes else None
        models = self.calibration.together_and_apart()
        return PrefillBatch(
            *models,
            situation.decodes,
            self._memory(free_kv_tokens),
            mixed=mixed,
            beside=beside,
            between=between_decodes(situation, *learned),
            are_faster_apart=self._are_faster_apart(at_mixed, beside, *models),
            max_tokens=self.settings.max_chunk_tokens,
        )

    def _are_faster_apart(
        self, at: Situation, beside: Limit | None, together: LatencyModel, apart: LatencyModel
    ) -> Callable[[int, int], bool]:
        """Whether a chunk and the decodes are, as is believed or to find out."""
        self._way_to_try = None
        if beside is None or not at.decodes.decodes:
            return lambda tokens, context: False
        calibration = self.calibration
        self._way_to_try = way_to_try(at, beside, calibration, self.settings)
        if self._way_to_try is not None:
            tries_apart = self._way_to_try is Way.APART
            return lambda tokens, context: tries_apart
        return lambda tokens, context: are_faster_apart(
            tokens, context, at.decodes, together, apart
        )

    def _note_way(self, batch: PrefillBatch) -> None:
        """An iteration without prompts finds nothing out."""
        if batch.avoided_tokens:
            self.calibration.takes_turn(batch.avoided_tokens, *self._decodes.mixed_load)
        if not batch.chunks:
            return
        way = Way.APART if batch.leaves_decodes_out else Way.TOGETHER
        if way is self._way_to_try is Way.APART:
            self.calibration.tries_decodes_alone()
        elif way is self._way_to_try:
            self.calibration.sharing.probed()

    def _situation(self, now_s: float) -> Situation:
        self._revise_schedules(now_s)
        self._decodes.relax_late(now_s, self.settings.late_tbt_s)
        return self._situation_as_it_is(now_s)

    def _situation_as_it_is(self, now_s: float) -> Situation:
        started = self._backlog.started.values()
        return Situation(
            now_s=now_s,
            decodes=self._decodes.load,
            urgent=self._decodes.most_urgent(),
            gap_due_s=self._decoded_s + self._decodes.shortest_gap_s(),
            waiting_work=self._backlog.work,
            prefill_context=max((p.computed_tokens for p in started), default=0),
            decoded_s=self._decoded_s,
            decodes_wait=self._decodes_wait,
        )

    def _revise_schedules(self, now_s: float) -> None:
        """Answers that have to be complete in time go as fast as it takes, as of now."""
        due = list(self._decodes.to_revise(self._limits.decisions))
        if not due:
            return
        circumstances, lengths = self._circumstances(now_s), self._learned.lengths
        for request, generated in due:
            schedule = just_enough(request, generated, now_s, circumstances, lengths, self.settings)
            self._decodes.reschedule(request.request_id, schedule.next_due_s, schedule.pace_s)

    def _circumstances(self, now_s: float) -> Circumstances:
        decodes_s = self.calibration.corrected.iteration_s(0, 0, *self._decodes.load)
        backlog = self._backlog
        return Circumstances(
            backlog.pressure,
            backlog.near_pressure,
            backlog.offered_load(now_s),
            _LEAST_ITERATION * decodes_s,
        )

    def _memory(self, free_kv_tokens: int) -> Memory:
        free = free_kv_tokens - self._decodes.load.decodes
        growth = int(self.settings.kv_growth_share * self._decodes.tokens_to_come)
        return Memory(free, free - self._backlog.reserved_kv_tokens() - growth)

    def load(self, now_s: float) -> QueueLoad:
        """How busy this replica is. Changes nothing: it may be asked at any time."""
        idle = not self._decodes and not self._backlog.started
        iteration_s = 0.0 if idle or self._batch is None else self._batch.predicted_s()
        return queue_load(
            self._backlog,
            now_s,
            # As of now, and not of the last plan: after the last answer there is none.
            decoding=self._learned.decoding(self._decodes),
            tokens_per_s=self._learned.tokens_per_s,
            # Somebody who arrives finds half of it left on average.
            wait_s=iteration_s / 2,
            prompt_s=self._next_in_line(now_s).prompt_s,
        )

    def _next_in_line(self, now_s: float) -> NextInLine:
        """As if the decodes had just had their turn."""
        model, settings = self.calibration.corrected, self.settings
        if not self._decodes:
            return NextInLine(model, settings.max_chunk_tokens)
        at = self._situation_as_it_is(now_s)._replace(decoded_s=now_s, decodes_wait=False)
        mixed, learned = self._decodes.mixed_load, (self.calibration, settings)
        models = self.calibration.together_and_apart()
        return NextInLine(
            model,
            settings.max_chunk_tokens,
            at.decodes,
            mixed,
            beside_decodes(at.mixed(mixed), *learned) if self._decodes.mix else None,
            between_decodes(at, *learned),
            lambda tokens, context: are_faster_apart(tokens, context, mixed, *models),
        )

    # ---- learning

    def observe(self, result: IterationResult) -> dict[str, Release]:
        for request_id in result.retracted:
            self.retract(request_id, result.end_s)
        self._learn(result)
        self._advance_decodes(result)
        completed = self._backlog.compute(result.chunks, result.end_s, processed=result.processed)
        self._requeue_untaken(result.end_s)
        releases: dict[str, Release] = {}
        for prefill in completed:
            if (release := self._start_decode(prefill, result.end_s)) is not None:
                releases[prefill.request_id] = release
        for request_id in result.finished:
            self._finish(request_id, result.end_s)
        return releases

    @property
    def verified_tokens(self) -> int:
        """What each decode computes in an iteration without prompts."""
        return self._learned.verified_tokens

    def accepted(self, tokens: Mapping[str, int]) -> None:
        """See `Decodes.accepted`; told after the iteration was observed."""
        if self.settings.count_drafts:
            self._decodes.accepted(tokens)

    def measured(self, ran: Sample, *, full: bool) -> None:
        """What an iteration took, for engines that know it only after the plans that follow it.

        `full` as in its plan.
        """
        self._learned.iteration(ran, full=full)

    def use(self, model: LatencyModel) -> None:
        """Continue with another latency model, such as one fitted to what was measured."""
        self._learned.use(model)

    def _learn(self, result: IterationResult) -> None:
        if self._planning is None or result.duration_s <= 0:  # nothing ran
            return
        computed = NO_CHUNKS
        for request_id, tokens in result.chunks:
            prefill = self._backlog.get(request_id)
            computed = computed.beside(tokens, prefill.context_tokens if prefill else 0)
        tokens, context, pairs = computed
        decodes = self._decodes.mixed_load if result.chunks else self._decodes.load
        decodes = decodes if result.decoded else DecodeLoad(0, 0)
        ran = Sample(tokens, context, *decodes, result.duration_s, pairs)
        self._learned.iteration(ran, full=self._planning.is_full)

    def _advance_decodes(self, result: IterationResult) -> None:
        if result.decoded:
            self._decodes.advance()
            self._decodes.shift_late(result.end_s)
        if result.decoded or not self._decodes:
            self._decoded_s = result.end_s
            self._decodes_wait = False
        elif result.chunks:
            self._decodes_wait = True

    def _requeue_untaken(self, now_s: float) -> None:
        """What was planned and not computed (the engine had no room after all) waits again."""
        for chunk in self._batch.chunks if self._batch is not None else ():
            prefill = self._backlog.get(chunk.request_id)
            if prefill is not None and not prefill.has_kv:
                self._backlog.requeue(prefill, now_s)

    def _start_decode(self, prefill: Prefill, end_s: float) -> Release | None:
        """How the tokens are shown; None: immediately."""
        request, lengths = prefill.request, self._learned.lengths
        circumstances = self._circumstances(end_s)
        schedule = decode_schedule(prefill, end_s, circumstances, lengths, self.settings)
        self._decodes.add(
            request,
            next_due_s=schedule.next_due_s,
            pace_s=schedule.pace_s,
            context_tokens=prefill.computed_tokens,
            generated_tokens=prefill.generated_tokens + 1,
            revised=not request.qos.deadline_is_first_token,
        )
        return schedule.release

    def _finish(self, request_id: str, now_s: float) -> None:
        if request_id in self._decodes:
            self._learned.answered(self._decodes.finish(request_id), now_s)
        self._backlog.leave(request_id)
