"""The worker's settings, and whose arguments are whose."""

import pytest

from niyama.errors import ConfigurationError
from workers.main import main
from workers.settings import WorkerSettings


def _parse(*arguments: str) -> WorkerSettings:
    return WorkerSettings.from_command_line(list(arguments), "niyama worker")


def test_further_arguments_are_sglang_s() -> None:
    settings = _parse(
        "--model", "m", "--tp-size", "2", "--pool", "p", "--enable-metrics", "--host=::1"
    )
    assert (settings.model, settings.pool) == ("m", "p")
    assert settings.sglang_arguments == ["--tp-size", "2", "--enable-metrics", "--host=::1"]


def test_workers_name_themselves_apart() -> None:
    assert _parse().worker_id != _parse().worker_id


def test_help_documents_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parse("--help")
    printed = capsys.readouterr().out
    assert "sglang.launch_server --help" in printed
    for name, field in WorkerSettings.model_fields.items():
        if name != "sglang_arguments":
            switch = "no-" if field.default is True else ""
            assert f"--{switch}{name.replace('_', '-')} " in printed
            assert field.description


def test_the_null_engine_takes_no_further_arguments() -> None:
    with pytest.raises(ConfigurationError, match=r"unknown arguments .*: --tp-size 2"):
        main(["--engine", "null", "--tp-size", "2"])


def test_a_misspelled_flag_gets_a_suggestion_from_the_null_engine() -> None:
    with pytest.raises(ConfigurationError, match=r"--max-atempts=2; did you mean --max-attempts\?"):
        main(["--engine", "null", "--max-atempts=2"])


def test_token_timing_is_shown_as_it_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        _parse("--help")
    assert "--token-timing {envelope,gaps,paced}" in capsys.readouterr().out


@pytest.mark.parametrize(
    "setting", ["--max-attempts=0", "--session-timeout-s=1", "--health-port=-1"]
)
def test_impossible_settings_are_named(setting: str) -> None:
    with pytest.raises(ConfigurationError, match=setting.partition("=")[0]):
        _parse(setting)
