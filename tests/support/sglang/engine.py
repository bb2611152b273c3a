"""SGLang's event loop around its scheduler, step by step."""

from tests.support.sglang.batches import prefilling
from tests.support.sglang.requests import FakeRequest, fake
from tests.support.sglang.scheduler import FakeScheduler
from tests.support.sglang.surroundings import FakeDecisionSender, FakeDevice
from workers.latency.learner import LatencyLearner
from workers.latency.model import LatencyModel
from workers.policy.plan import IterationPlan
from workers.policy.policy import NiyamaPolicy
from workers.policy.settings import Settings
from workers.runtime.scheduler.driver import Plan, PolicyDriver
from workers.runtime.scheduler.parts import assemble

IDLE_S = 0.001
"""A turn of the loop without a batch."""


class FakeEngine(FakeScheduler):
    """A scheduler that runs, on a device and a clock of the test's."""

    def __init__(
        self,
        latency: LatencyModel,
        settings: Settings,
        *,
        kv_tokens: int = 100_000,
        overlap: bool = False,
        paces: bool = False,
        mixes: bool = True,
        verified_tokens: int = 1,
    ) -> None:
        """`mixes`: as with `--enable-mixed-chunk`. Each decode verifies `verified_tokens`."""
        super().__init__(
            chunk_tokens=settings.max_chunk_tokens,
            kv_tokens=kv_tokens,
            overlap=overlap,
            mixes=mixes,
        )
        self.step_s: float | None = 0.05
        """How long an iteration takes; None: as `device` says."""
        self.launched: list[dict[str, int]] = []
        """Prompt tokens of each iteration, by request."""
        self.planned_kv_tokens: list[int] = []
        """Free KV that each plan was made with."""
        self.sender = FakeDecisionSender()
        self.models: list[LatencyModel] = []
        self.device = FakeDevice(latency)
        self._idled = True
        policy = NiyamaPolicy(latency, settings, verified_tokens=verified_tokens)
        self.learner = LatencyLearner()
        self.driver = PolicyDriver(policy, self.learner, checked=self._recorded)
        self.niyama = assemble(
            self,
            self.driver,
            self.clock,
            self.sender,
            self.models.append,
            latency_is_known=True,
            paces=paces,
            has_worker=True,
        )

    def _recorded(self, plan: Plan) -> Plan:
        def recorded(
            now_s: float, start_s: float, free_kv_tokens: int, most_prompts: int
        ) -> IterationPlan:
            self.planned_kv_tokens.append(free_kv_tokens)
            return plan(now_s, start_s, free_kv_tokens, most_prompts)

        return recorded

    def arrive(self, *requests: FakeRequest) -> None:
        self.niyama.clock.tick()
        for each in requests:
            self._add_to_queue(each)

    def abort(self, rid: str) -> None:
        """End a request as SGLang's `abort_request` does, which looks for it in every place."""
        if self.chunked_req is not None and self.chunked_req.rid == rid:
            self._aborting = fake(self.chunked_req)
        for req in [req for req in self.waiting_queue if req.rid == rid]:
            self.waiting_queue.remove(req)
            self._send_abort_output(req, None)
        for req in self._in_batches():
            if req.rid == rid:
                req.abort_reason = "aborted"

    def retract(self, rid: str) -> None:
        """Take the KV of a decode back, as SGLang does when memory is short."""
        (req,) = [req for req in self.running.reqs if req.rid == rid]
        self.running.reqs.remove(req)
        req.reset_for_retract()
        self._add_to_queue(req)

    def step(self) -> None:
        """One turn of SGLang's event loop."""
        self.niyama.heartbeat.turn()
        self._abort_chunked()
        if self.chunked_req is not None:
            self._stash(fake(self.chunked_req))
        batch = self._next_batch()
        if batch is not None:
            self.niyama.watcher.launching(batch, after_idle=self._idled)
            self.niyama.watcher.launched()
            prompts = prefilling(batch)
            self.launched.append({req.rid: req.extend_len for req in prompts})
            self._unprocessed.append(batch)
        self._idled = batch is None
        if batch is None or self.step_s is not None:
            self.clock.now_s += self.step_s or IDLE_S
        else:
            self.device.launched(batch, self.clock.own_s())
        while len(self._unprocessed) > (1 if self.enable_overlap and batch else 0):
            if self.step_s is None:
                self.clock.now_s += max(0.0, self.device.next_end_s() - self.clock.own_s())
            self._process(self._unprocessed.pop(0))

    def run(self, limit: int = 500) -> None:
        """Step until nothing is left, and once more, as an idle loop does."""
        for _ in range(limit):
            if self.is_idle:
                self.step()
                return
            self.step()
        raise AssertionError(f"not idle after {limit} iterations")

    @property
    def is_idle(self) -> bool:
        return not (
            self.niyama.parking.is_busy
            or self.waiting_queue
            or self.chunked_req
            or self.running.reqs
            or self._unprocessed
        )

    def reported(self, rid: str) -> list[str]:
        """The kinds of the decisions that were sent about a request."""
        return [str(d.kind) for d in self.sender.sent if d.request_id == rid]
