"""The command line before any command runs: its usage, its version, and misspelled names."""

import subprocess
import sys
from importlib.metadata import version

import pytest

from niyama import cli


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["niyama", *arguments])
    cli.main()


@pytest.mark.parametrize("flag", ["--version", "-V"])
def test_the_version_is_that_of_the_installation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    run(monkeypatch, flag)
    assert capsys.readouterr().out == f"niyama {version('niyama')}\n"


def test_the_usage_lists_every_command_and_fits_a_terminal_of_eighty_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "--help")
    printed = capsys.readouterr().out
    assert "--version" in printed
    for name, summary in cli.SUMMARIES.items():
        assert f"  {name} " in printed
        assert summary in printed
    assert max(map(len, printed.splitlines())) <= 80


def test_no_command_prints_the_usage_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        run(monkeypatch)
    assert exit_.value.code == 2
    assert "usage: niyama <command>" in capsys.readouterr().out


def test_a_misspelled_command_gets_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="no command 'wroker'; did you mean worker"):
        run(monkeypatch, "wroker")


def test_a_misspelled_option_gets_a_suggestion(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match="no option '--verson'; did you mean --version"):
        run(monkeypatch, "--verson")


def test_an_unknown_command_gets_the_usage(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit, match=r"no command 'serve'(.|\n)*usage: niyama"):
        run(monkeypatch, "serve")


def test_it_starts_without_what_only_the_gateway_or_the_worker_needs() -> None:
    code = "import sys, niyama.cli; print(sys.modules.keys() & {'fastapi', 'sglang', 'sqlalchemy'})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
