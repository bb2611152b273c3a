"""Batches as SGLang's scheduler makes them."""

from dataclasses import dataclass

from tests.support.sglang.requests import FakeRequest
from workers.runtime.scheduler.seams import Batch


@dataclass
class FakeForwardMode:
    extends: bool

    def is_extend(self) -> bool:
        return self.extends


@dataclass
class FakePrefillStats:
    num_pending_tokens: int = 0


@dataclass
class FakeBatch:
    reqs: list[FakeRequest]
    forward_mode: FakeForwardMode
    decoding_reqs: list[FakeRequest] | None = None
    prefill_stats: FakePrefillStats | None = None
    batch_is_full: bool = False
    global_num_tokens: list[int] | None = None
    is_extend_in_batch: bool = False

    def is_empty(self) -> bool:
        return not self.reqs


@dataclass
class FakeNextBatch:
    batch_to_run: FakeBatch | None
    running_batch: Batch


def prefilling(batch: FakeBatch) -> list[FakeRequest]:
    """The requests whose prompts it computes."""
    if not batch.forward_mode.is_extend():
        return []
    return [req for req in batch.reqs if req not in (batch.decoding_reqs or [])]


def decoding(batch: FakeBatch) -> list[FakeRequest]:
    """The requests that it generates a token of."""
    return list(batch.decoding_reqs or ()) if batch.forward_mode.is_extend() else batch.reqs
