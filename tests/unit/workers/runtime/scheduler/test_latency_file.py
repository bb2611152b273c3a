"""Where an engine keeps what it has learned of a device."""

from pathlib import Path

import pytest

from tests.support.latency import taught
from workers.latency.learner import LatencyLearner
from workers.latency.model import Coefficients, LatencyModel
from workers.latency.profiles import load_profile
from workers.runtime.scheduler.latency_file import DIRECTORY_VARIABLE, LatencyFile

SUBJECT = {"model": "/models/Tiny Llama", "device": "cpu (x86)", "tp": 1}


def test_samples_survive_a_restart_and_serve_the_simulator(tmp_path: Path) -> None:
    file = LatencyFile(SUBJECT, {DIRECTORY_VARIABLE: str(tmp_path)})
    learner = taught(LatencyLearner(file.load()))
    model = learner.model()
    assert model is not None
    file.save(learner.samples, model, 6144)
    assert LatencyLearner(file.load()).model() == model
    (profile,) = tmp_path.glob("tiny-llama-cpu-x86-????????.json")
    assert load_profile(str(profile)).latency == model
    assert load_profile(str(profile)).kv_tokens == 6144


def test_another_device_has_another_file(tmp_path: Path) -> None:
    file = LatencyFile(SUBJECT, {DIRECTORY_VARIABLE: str(tmp_path)})
    learner = taught(LatencyLearner())
    model = learner.model()
    assert model is not None
    file.save(learner.samples, model, 1)
    other = LatencyFile(SUBJECT | {"tp": 2}, {DIRECTORY_VARIABLE: str(tmp_path)})
    assert other.load() == []


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"schema_version": 1}',
        '{"schema_version": 1, "samples": [[1]]}',
        '{"schema_version": 1, "samples": [[Infinity, 0, 0, 0, 0.1]]}',
        '{"schema_version": 1, "samples": ' + "[" * 100_000,
    ],
)
def test_a_broken_file_is_reported_and_replaced(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = LatencyFile(SUBJECT, {DIRECTORY_VARIABLE: str(tmp_path)})
    model = taught(LatencyLearner()).model()
    assert model is not None
    file.save([], model, 1)
    next(tmp_path.glob("*.samples.json")).write_text(content)
    assert file.load() == []
    assert "cannot be read and will be replaced" in caplog.text


def test_a_folder_that_cannot_be_written_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    file = LatencyFile(SUBJECT, {DIRECTORY_VARIABLE: str(tmp_path / "file")})
    model = taught(LatencyLearner()).model()
    assert model is not None
    file.save([], model, 1)
    assert f"cannot be written; set {DIRECTORY_VARIABLE}" in caplog.text


def test_a_model_that_cannot_be_kept_is_reported(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = LatencyFile(SUBJECT, {DIRECTORY_VARIABLE: str(tmp_path)})
    broken = Coefficients(-0.001, 0.0, 1e-4, 0.0, 0.0, 0.0)
    file.save([], LatencyModel(broken, broken, 512), 1)
    assert "cannot be kept" in caplog.text


def test_samples_from_before_pairs_were_kept_are_those_of_one_prompt(tmp_path: Path) -> None:
    file = LatencyFile(SUBJECT, {DIRECTORY_VARIABLE: str(tmp_path)})
    model = taught(LatencyLearner()).model()
    assert model is not None
    file.save([], model, 1)
    old = '{"schema_version": 1, "samples": [[100, 1000, 2, 300, 0.05]]}'
    next(tmp_path.glob("*.samples.json")).write_text(old)
    (sample,) = file.load()
    assert sample.batch == (100, 1000, 2, 300, 100 * 1050)


def test_an_empty_folder_name_keeps_nothing() -> None:
    assert LatencyFile(SUBJECT, {DIRECTORY_VARIABLE: ""}).load() == []
