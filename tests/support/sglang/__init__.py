"""SGLang's scheduler in memory: its queue, its one prompt in progress, its batches and results.

`FakeEngine` does what SGLang 0.5.23 does at each seam, and calls the parts of Niyama there as
`NiyamaScheduler` does. It has no model: a chunk is a count, and every request generates zeros.
"""

from tests.support.sglang.batches import FakeBatch, FakeForwardMode
from tests.support.sglang.engine import FakeEngine
from tests.support.sglang.requests import FakeRequest, FakeSamplingParams, about, request

__all__ = [
    "FakeBatch",
    "FakeEngine",
    "FakeForwardMode",
    "FakeRequest",
    "FakeSamplingParams",
    "about",
    "request",
]
