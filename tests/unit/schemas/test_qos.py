"""Named classes and explicit targets become absolute deadlines."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas import Kind, QosCatalog, QosTargets, Task
from schemas.qos import UnknownQosClassError

ARRIVED_AT = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)


def test_the_papers_first_tier_has_six_seconds_and_fifty_milliseconds() -> None:
    q1 = QosCatalog.shipped().resolve("q1")
    assert (q1.kind, q1.ttft_s, q1.tbt_s, q1.ttlt_s) == ("interactive", 6.0, 0.05, None)


@pytest.mark.parametrize(
    ("name", "ttlt_s"), [("q2", 600), ("q3", 1800), ("batch-1h", 3600), ("batch-24h", 86_400)]
)
def test_shipped_batch_classes(name: str, ttlt_s: float) -> None:
    qos = QosCatalog.shipped().resolve(name)
    assert (qos.kind, qos.ttlt_s) == ("batch", ttlt_s)


def test_an_interactive_deadline_is_that_of_the_first_token() -> None:
    qos = QosCatalog.shipped().resolve(QosTargets(ttft_ms=1500, tbt_ms=50))
    assert qos.deadline_at(ARRIVED_AT) == datetime(2026, 11, 21, 9, 0, 1, 500_000, tzinfo=UTC)


def test_a_batch_deadline_is_that_of_the_last_token() -> None:
    qos = QosCatalog.shipped().resolve(QosTargets(ttlt_s=60))
    assert qos.deadline_at(ARRIVED_AT) == datetime(2026, 11, 21, 9, 1, 0, tzinfo=UTC)


def test_somebody_waits_for_an_answer_that_is_due_within_milliseconds() -> None:
    qos = QosCatalog.shipped().resolve(QosTargets(ttlt_ms=8000))
    assert (qos.kind, qos.ttlt_s) == (Kind.DEADLINE, 8.0)
    assert qos.deadline_at(ARRIVED_AT) == datetime(2026, 11, 21, 9, 0, 8, tzinfo=UTC)


def test_the_deadline_of_a_task_is_the_same_whenever_a_call_arrives() -> None:
    deadline = datetime(2026, 11, 21, 9, 1, tzinfo=UTC)
    qos = QosCatalog.shipped().resolve(QosTargets(task=Task(id="trip", deadline=deadline)))
    assert (qos.kind, qos.deadline_at(ARRIVED_AT)) == (Kind.TASK, deadline)


def test_an_unknown_class_is_answered_with_the_known_ones() -> None:
    with pytest.raises(UnknownQosClassError, match=r"unknown QoS class 'fast'.*batch-1h, .*chat"):
        QosCatalog.shipped().resolve("fast")


def test_a_file_adds_and_overrides_classes(tmp_path: Path) -> None:
    file = tmp_path / "qos.toml"
    file.write_text("[chat]\nttft_ms = 300\ntbt_ms = 40\n\n[nightly]\nttlt_s = 36000\n")
    catalog = QosCatalog.load(file)
    assert catalog.resolve("chat").ttft_s == 0.3
    assert catalog.resolve("nightly").kind == "batch"
    assert catalog.resolve("q2").ttlt_s == 600


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[chat\n", "not valid TOML"),
        ("[chat]\nttft_ms = 300\n", "class chat: .*give one of"),
        ("[chat]\nttlt = 300\n", "class chat.ttlt: Extra inputs"),
        ('["a b"]\nttlt_s = 300\n', "class a b"),
        (
            '[trip]\ntask = {id = "t", deadline = 2026-11-22T10:00:00Z}\n',
            "class trip: a task is for a job to name",
        ),
    ],
)
def test_a_broken_file_is_refused_with_its_name(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "qos.toml"
    file.write_text(content)
    with pytest.raises(ValueError, match=f"{file}.*{message}"):
        QosCatalog.load(file)


def test_a_missing_file_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"qos\.toml cannot be read"):
        QosCatalog.load(tmp_path / "qos.toml")
