"""What the worker's unit tests share."""

from uuid import uuid4

import pytest

from schemas.event import Source
from tests.support.senders import FakeSender
from workers.reporting.job_attempt import JobAttempt


@pytest.fixture
def sender() -> FakeSender:
    return FakeSender()


@pytest.fixture
def attempt() -> JobAttempt:
    return JobAttempt(uuid4(), 1, Source(topic="t", partition=0, offset=0))
