"""Settings come from flags and the environment, and wrong ones are named."""

import pytest

from niyama.errors import ConfigurationError
from niyama.settings import KafkaSettings


def test_flags_win_over_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NIYAMA_POOL", "from-environment")
    monkeypatch.setenv("NIYAMA_KAFKA_BOOTSTRAP", "kafka:9092")
    settings = KafkaSettings.from_command_line(["--pool", "from-flag"], "niyama test")
    assert (settings.pool, settings.kafka_bootstrap) == ("from-flag", "kafka:9092")


def test_a_wrong_value_is_answered_with_flag_and_variable() -> None:
    with pytest.raises(ConfigurationError, match=r"--topic-partitions \(NIYAMA_TOPIC_PARTITIONS\)"):
        KafkaSettings.from_command_line(["--topic-partitions", "0"], "niyama test")


def test_a_missing_qos_file_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError, match=r"/nowhere/qos\.toml cannot be read"):
        KafkaSettings.from_command_line(["--qos-file", "/nowhere/qos.toml"], "niyama test")


def test_help_documents_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        KafkaSettings.from_command_line(["--help"], "niyama test")
    printed = capsys.readouterr().out
    assert "usage: niyama test" in printed
    for name, field in KafkaSettings.model_fields.items():
        assert f"--{name.replace('_', '-')}" in printed
        assert field.description


def test_pools_have_job_topics_of_their_own_and_share_the_rest() -> None:
    one = KafkaSettings(pool="one").topics
    two = KafkaSettings(pool="two").topics
    assert one.batch.name == "niyama.one.batch"
    assert {spec.name for spec in one.jobs}.isdisjoint(spec.name for spec in two.jobs)
    assert one.events == two.events
