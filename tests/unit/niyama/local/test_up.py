"""The arguments of `niyama up`."""

import pytest

from niyama.errors import ConfigurationError
from niyama.local.up import UpSettings, main


def test_a_flag_of_the_workers_is_answered_with_where_it_goes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        UpSettings.from_command_line(["--tp-size", "2"], "niyama up")
    assert (
        "unknown arguments: --tp-size 2 (arguments for the worker go after --)"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize("given", [["--health-port", "1"], ["--health-port=1"]])
def test_the_workers_port_is_chosen_before_the_dashes(given: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="--health-port goes before --"):
        main(["--", *given])


@pytest.mark.parametrize(("arguments", "fresh"), [([], False), (["--fresh"], True)])
def test_a_switch_is_off_until_it_is_given(arguments: list[str], fresh: bool) -> None:
    assert UpSettings.from_command_line(arguments, "niyama up").fresh is fresh
