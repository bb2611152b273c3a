"""What is around SGLang's scheduler: time, the device, and whom it tells."""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from tests.support.sglang.batches import FakeBatch, decoding, prefilling
from workers.engine.load import EngineLoad
from workers.latency.model import LatencyModel
from workers.policy.decision import Decision
from workers.runtime.scheduler.wall_clock import Instant


@dataclass
class FakeClock:
    now_s: float = 1000.0
    """UTC epoch seconds."""
    offset_s: float = 900.0
    """Of the monotonic clock, which is behind."""

    def step(self, by_s: float) -> None:
        """Somebody sets the clock."""
        self.now_s += by_s
        self.offset_s += by_s

    def own_s(self) -> float:
        return self.now_s - self.offset_s

    def share(self, durations_s: Sequence[float]) -> tuple[Instant, list[float]]:
        return Instant(self.now_s, self.own_s()), list(durations_s)


@dataclass
class FakeDecisionSender:
    """Keeps the decisions that were flushed."""

    sent: list[Decision] = field(default_factory=list)
    pending: list[Decision] = field(default_factory=list)
    loads: list[EngineLoad] = field(default_factory=list)

    def send_load(self, load: EngineLoad, replica: int) -> None:
        self.loads.append(load)

    def add(self, decision: Decision) -> None:
        self.pending.append(decision)

    def flush(self) -> None:
        self.sent += self.pending
        self.pending.clear()


class FakeDevice:
    """Runs one batch after the other, each for as long as the latency model says."""

    def __init__(self, latency: LatencyModel) -> None:
        self.decoded_s: list[float] = []
        """When decodes had a token; as all times here, on the monotonic clock."""
        self.mixed = 0
        """Batches that had prompts and decodes in them."""
        self._latency = latency
        self._ends_s: deque[float] = deque()
        self._busy_until_s = 0.0

    def launched(self, batch: FakeBatch, now_s: float) -> None:
        prompts, decodes = prefilling(batch), decoding(batch)
        self.mixed += bool(prompts and decodes)
        self._busy_until_s = max(self._busy_until_s, now_s) + self._latency.iteration_s(
            sum(req.extend_len for req in prompts),
            sum(req.prefix_len for req in prompts),
            len(decodes),
            sum(req.seqlen for req in decodes),
        )
        self._ends_s.append(self._busy_until_s)
        if decodes:
            self.decoded_s.append(self._busy_until_s)

    def next_end_s(self) -> float:
        """When the oldest batch that was not asked about ends."""
        return self._ends_s.popleft()
