"""The latency model that an engine learns from its own iterations."""

from pathlib import Path

import pytest

from workers.latency.fit import Sample
from workers.latency.learner import LatencyLearner
from workers.latency.profiles import load_profile
from workers.runtime.latency_file import DIRECTORY_VARIABLE, LatencyFile


def sample(prefill: int, decodes: int) -> Sample:
    """10 ms, 0.1 ms per prompt token and 0.5 ms per decode."""
    return Sample(prefill, 0, decodes, 100 * decodes, 0.010 + 1e-4 * prefill + 5e-4 * decodes)


def taught(learner: LatencyLearner) -> LatencyLearner:
    for prefill in (0, 16, 64, 256, 1024):
        for decodes in (1, 4, 16):
            learner.add(sample(prefill, decodes))
    return learner


def test_learns_what_iterations_take() -> None:
    model = taught(LatencyLearner()).model()
    assert model is not None
    assert model.iteration_s(512, 0, 8, 800) == pytest.approx(0.0652, rel=0.02)


def test_a_single_size_teaches_nothing_about_others() -> None:
    learner = LatencyLearner()
    assert [learner.add(sample(0, 4)) for _ in range(200)] == [None] * 200


def test_hours_of_decodes_do_not_wash_out_prompts() -> None:
    learner = taught(LatencyLearner())
    for _ in range(5000):
        learner.add(sample(0, 4))
    model = learner.model()
    assert model is not None
    assert model.iteration_s(1024, 0, 1, 100) == pytest.approx(0.1129, rel=0.02)


def test_fits_often_at_first_then_rarely() -> None:
    learner = LatencyLearner()
    fitted = [n for n in range(1, 300) if learner.add(sample(2 ** (n % 10), n % 7)) is not None]
    assert fitted == [32, 64, 128, 256]


def test_an_iteration_without_a_duration_is_ignored() -> None:
    learner = LatencyLearner()
    learner.add(Sample(1, 0, 0, 0, 0.0))
    assert learner.samples == []


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
    "content", ["", "[]", '{"schema_version": 1}', '{"schema_version": 1, "samples": [[1]]}']
)
def test_a_broken_file_is_logged_and_left_aside(
    tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = LatencyFile(SUBJECT, {DIRECTORY_VARIABLE: str(tmp_path)})
    model = taught(LatencyLearner()).model()
    assert model is not None
    file.save([], model, 1)
    next(tmp_path.glob("*.samples.json")).write_text(content)
    assert file.load() == []
    assert "cannot be read and will be replaced" in caplog.text


def test_a_folder_that_cannot_be_written_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    file = LatencyFile(SUBJECT, {DIRECTORY_VARIABLE: str(tmp_path / "file")})
    model = taught(LatencyLearner()).model()
    assert model is not None
    file.save([], model, 1)
    assert f"cannot be written; set {DIRECTORY_VARIABLE}" in caplog.text


def test_an_empty_folder_name_keeps_nothing() -> None:
    assert LatencyFile(SUBJECT, {DIRECTORY_VARIABLE: ""}).load() == []
