"""What becomes of batches: launched, then processed; overlapped, that is a step later."""

import math
from collections.abc import Sequence

from workers.engine.load import TokenRates
from workers.latency.model import Regime
from workers.runtime.messages import RELEASE_KEY
from workers.runtime.scheduler.batch_maker import total_tokens
from workers.runtime.scheduler.driver import Computed, Launched, PolicyDriver
from workers.runtime.scheduler.iteration_accounts import (
    ChunkLaunched,
    IterationAccounts,
    IterationLaunched,
)
from workers.runtime.scheduler.iteration_clock import IterationClock
from workers.runtime.scheduler.parking import Parking
from workers.runtime.scheduler.reporter import DecisionReporter
from workers.runtime.scheduler.seams import Batch, EngineCalls, EngineRequest


class BatchWatcher:
    def __init__(
        self,
        engine: EngineCalls,
        parking: Parking,
        driver: PolicyDriver,
        clock: IterationClock,
        reporter: DecisionReporter,
        rates: TokenRates,
        accounts: IterationAccounts,
        *,
        paces: bool,
    ) -> None:
        """`paces`: tokens are held back until they are due."""
        self._engine = engine
        self._parking = parking
        self._driver = driver
        self._clock = clock
        self._reporter = reporter
        self._rates = rates
        self._accounts = accounts
        self._paces = paces
        self._iterations = 0
        """Launched so far."""
        self._unfinished: list[EngineRequest] = []
        """Those of the last batch whose prompts go on after it."""
        self._generated: dict[str, int] = {}
        """By request id, tokens of the decodes in the batch whose result is being processed; empty
        where no drafts are verified."""

    def launching(self, batch: Batch, *, after_idle: bool) -> None:
        """Note what `batch` computes, and report the prompts that start or resume with it."""
        self._clock.launched(after_idle=after_idle)
        self._iterations += 1
        predicted_s = self._clock.take_prediction()
        prefilling, decoding = _parts(batch)
        self._account(prefilling, decoding, predicted_s or 0.0, after_idle=after_idle)
        for req in prefilling:
            self._reporter.launched(req, self._clock.now_s)
        self._reporter.flush()
        chunks = tuple(_computed(req) for req in prefilling)
        is_own_pace = _is_own_pace(batch, prefilling, len(decoding))
        self._count(chunks, len(decoding), predicted_s if is_own_pace else None)
        verified_tokens = self._driver.policy.verified_tokens if _has_drafts(batch) else 1
        self._driver.launched(
            Launched(
                chunks=chunks,
                decodes=len(decoding) * verified_tokens,
                decode_context=sum(req.seqlen for req in decoding),
                is_own_pace=is_own_pace,
                processed_later=self._engine.scheduler.enable_overlap,
            )
        )

    def _account(
        self,
        prefilling: Sequence[EngineRequest],
        decoding: Sequence[EngineRequest],
        predicted_s: float,
        *,
        after_idle: bool,
    ) -> None:
        policy = self._driver.policy
        model, verified = policy.calibration.corrected, policy.verified_tokens * len(decoding)
        decode_context = sum(req.seqlen for req in decoding)
        shares = len(prefilling) + len(decoding) > 1
        chunks = [
            ChunkLaunched(
                req,
                req.extend_len,
                model.iteration_s(req.extend_len, req.prefix_len, 0, 0) if shares else math.inf,
            )
            for req in prefilling
        ]
        iteration = IterationLaunched(
            self._iterations,
            predicted_s,
            chunks,
            self._unfinished,
            len(decoding),
            model.iteration_s(0, 0, verified, decode_context) if decoding else 0.0,
            after_idle,
        )
        self._accounts.launched(iteration, self._clock.own_s(), self._clock.offset_s)
        self._unfinished = [
            req for req in prefilling if req.prefix_len + req.extend_len < total_tokens(req)
        ]

    def launched(self) -> None:
        if self._engine.runs_in_step():
            self._ended()

    def _ended(self) -> None:
        self._clock.ended()
        self._accounts.ended(self._clock.own_s(), self._clock.offset_s)

    def processing(self, batch: Batch) -> None:
        """Note how far decodes are, and let each prompt's first token carry the schedule by which
        its tokens are to be shown."""
        if self._driver.policy.verified_tokens > 1 and _has_drafts(batch):
            self._generated = {req.rid: len(req.output_ids) for req in batch.reqs}
        if self._paces:
            self._send_releases(batch)

    def _send_releases(self, batch: Batch) -> None:
        if not self._engine.scheduler.enable_overlap:
            # Overlapped, the plan of the next iteration has reported this one already.
            self._driver.report(self._clock.shared_s())
        if releases := self._driver.take_releases():
            for req in batch.reqs:
                if (release := releases.get(req.rid)) is not None:
                    _send_with_token(req, RELEASE_KEY, [tuple(self._clock.monotonic(release))])

    def processed(self, batch: Batch) -> None:
        if not self._engine.runs_in_step():
            self._ended()
        if self._generated:
            accepted = self._accepted(batch)
            self._driver.accepted(accepted)
            self._rates.add(generated_tokens=sum(accepted.values()))
        now_s = self._clock.own_s()
        for req in _parts(batch)[0]:
            req.niyama.account.generated(len(req.output_ids), now_s)
        for req in batch.reqs:
            if self._engine.was_aborted(req):
                self._driver.aborted(req.rid)
            elif req.finished():
                self._driver.finished(req.rid)
        self._parking.requeue()

    def _count(self, chunks: Sequence[Computed], decodes: int, predicted_s: float | None) -> None:
        """A complete prompt has its first token."""
        complete = sum(chunk.tokens == chunk.remaining_tokens for chunk in chunks)
        prompt_tokens = sum(chunk.tokens for chunk in chunks)
        self._rates.add(prompt_tokens=prompt_tokens, generated_tokens=decodes + complete)
        regime = Regime.DECODES
        if prompt_tokens:
            regime = self._driver.policy.calibration.model.regime(prompt_tokens, decodes)
        self._clock.iterations.launched(predicted_s, prompt_tokens, regime)

    def _accepted(self, batch: Batch) -> dict[str, int]:
        """What decodes had beyond one token each; those that had ended before had none."""
        before, self._generated = self._generated, {}
        more = {
            req.rid: len(req.output_ids) - before[req.rid] - 1
            for req in batch.reqs
            if req.rid in before
        }
        return {rid: tokens for rid, tokens in more.items() if tokens >= 0}


def _send_with_token(req: EngineRequest, key: str, entries: list[object]) -> None:
    req.customized_info = {**(req.customized_info or {}), key: entries}


def _has_drafts(batch: Batch) -> bool:
    """SGLang verifies no drafts of decodes that run as an extension, beside prompts or not."""
    return not batch.forward_mode.is_extend()


def _parts(batch: Batch) -> tuple[list[EngineRequest], list[EngineRequest]]:
    """The requests whose prompts a batch computes, and those that decode in it."""
    if not batch.forward_mode.is_extend():
        return [], list(batch.reqs)
    decoding = list(batch.decoding_reqs or ())
    return list(batch.reqs)[: len(batch.reqs) - len(decoding)], decoding


def _is_own_pace(batch: Batch, prefilling: Sequence[EngineRequest], decodes: int) -> bool:
    """Whether a batch takes as long as its own work does.

    With data parallel attention all ranks step together, some with nothing of their own to do, and
    each step takes as long as the most that one of them computes. Decodes that SGLang runs as an
    extension, to be like the others, are no measure of decodes either.
    """
    if not prefilling:
        return decodes > 0 and not batch.is_extend_in_batch
    own_tokens = sum(req.extend_len for req in prefilling) + decodes
    return own_tokens >= max(batch.global_num_tokens or (), default=0)


def _computed(req: EngineRequest) -> Computed:
    """The chunk of a request in a batch that is about to run."""
    remaining_tokens = total_tokens(req) - req.prefix_len
    return Computed(req.rid, req.extend_len, req.prefix_len, remaining_tokens)
