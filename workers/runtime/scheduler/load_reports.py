"""What the scheduler's process tells the worker about how busy it is, once a second."""

import logging
from dataclasses import dataclass, field
from typing import Protocol

from niyama.logs import Throttle
from workers.engine.load import EngineLoad, TokenRates
from workers.runtime.scheduler.driver import PolicyDriver
from workers.runtime.scheduler.iteration_clock import IterationClock
from workers.runtime.scheduler.parking import Parking
from workers.runtime.scheduler.seams import EngineCalls

log = logging.getLogger(__name__)


class LoadSender(Protocol):
    def send_load(self, load: EngineLoad, replica: int) -> None:
        """`replica`: the data-parallel rank. Never blocks."""


@dataclass(slots=True, eq=False)
class LoadReports:
    engine: EngineCalls
    driver: PolicyDriver
    parking: Parking
    clock: IterationClock
    sender: LoadSender
    rates: TokenRates
    _throttle: Throttle = field(default_factory=Throttle, init=False)

    def send(self) -> None:
        """Serving does not depend on it: when it fails, that is all."""
        try:
            self.sender.send_load(self._load(), self.engine.replica())
        except Exception:
            self._throttle.exception(log, "this scheduler's load is not known")

    def _load(self) -> EngineLoad:
        prompt_tokens_per_s, generated_tokens_per_s = self.rates.per_s()
        policy = self.driver.policy
        kv_tokens = self.engine.total_kv_tokens()
        free_tokens = self.engine.free_kv_tokens() - self.parking.kept_tokens
        return EngineLoad(
            decodes=policy.decodes,
            prompt_tokens_per_s=prompt_tokens_per_s,
            generated_tokens_per_s=generated_tokens_per_s,
            used_kv_tokens=max(0, kv_tokens - free_tokens),
            kv_tokens=kv_tokens,
            queue=policy.load(self.clock.now_s),
            iterations=self.clock.iterations.counts(),
        )
