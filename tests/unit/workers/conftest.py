"""What the worker's unit tests share."""

from uuid import uuid4

import pytest

from schemas.event import Source
from tests.support.records import TOPICS
from tests.support.senders import FakeSender
from workers.reporting.job_attempt import JobAttempt
from workers.reporting.reporter import Reporter


@pytest.fixture
def sender() -> FakeSender:
    return FakeSender()


@pytest.fixture
def reporter(sender: FakeSender) -> Reporter:
    return Reporter(sender, TOPICS, worker_id="w", pool="default", clock=lambda: 1030.2)


@pytest.fixture
def attempt() -> JobAttempt:
    return JobAttempt(uuid4(), 1, Source(topic="t", partition=0, offset=0))
