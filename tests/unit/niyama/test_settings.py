"""Settings come from flags and the environment, and wrong ones are named."""

import re
from enum import StrEnum
from pathlib import Path

import pytest
from pydantic import Field

from gateway.replies.command import ChoiceSettings
from niyama.command_settings import CommandSettings
from niyama.errors import ConfigurationError
from niyama.settings import KafkaSettings
from niyama.status import StatusSettings
from niyama.workers import WorkersSettings


class TokenTiming(StrEnum):
    ENVELOPE = "envelope"
    GAPS = "gaps"
    PACED = "paced"


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


def test_a_misspelled_flag_is_an_error_with_a_suggestion(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as exit_:
        KafkaSettings.from_command_line(["--topic-perfix", "x"], "niyama test")
    assert exit_.value.code == 2
    printed = capsys.readouterr().err
    assert "niyama test: error: unknown arguments: --topic-perfix x" in printed
    assert "did you mean --topic-prefix?" in printed


def test_flags_are_named_as_they_are_typed() -> None:
    assert {"--help", "--pool", "--kafka-bootstrap"} <= set(KafkaSettings.flags())


class Everything(KafkaSettings):
    """Settings of every kind."""

    limit_s: float = Field(default=0, description="At most 1% of it")
    fresh: bool = Field(default=False, description="Start empty")
    timing: TokenTiming = Field(default=TokenTiming.PACED, description="When tokens are due")
    trace: Path = Field(description="What to read")


def test_help_shows_what_is_accepted_and_the_defaults(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit):
        Everything.from_command_line(["-h"], "niyama test")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    words = " ".join(" ".join(lines).split())
    for shown in (
        "--limit-s SECONDS At most 1% of it (default: 0)",
        "--fresh Start empty --",
        "--timing {envelope,gaps,paced} When tokens are due (default: paced)",
        "--trace PATH What to read (required)",
        "The connection to Kafka: --kafka-bootstrap TEXT",
        "--kafka-bootstrap is NIYAMA_KAFKA_BOOTSTRAP",
    ):
        assert shown in words


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        (StatusSettings, r"usage: niyama x \[options\] JOB_ID\n"),
        (ChoiceSettings, r"usage: niyama x \[options\] \[JOB_ID \.\.\.\]\n"),
    ],
)
def test_the_usage_says_how_many_arguments_are_taken(
    command: type[CommandSettings], usage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        command.from_command_line(["--help"], "niyama x")
    assert re.match(usage, capsys.readouterr().out)


def test_a_shortcut_takes_the_place_of_the_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert WorkersSettings.from_command_line(["--json"], "x").as_json
    with pytest.raises(SystemExit):
        WorkersSettings.from_command_line(["--help"], "x")
    printed = capsys.readouterr().out
    assert " --json " in printed
    assert "as-json" not in printed
