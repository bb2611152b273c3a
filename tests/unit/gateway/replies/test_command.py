"""What the arguments of `niyama replies` mean."""

from uuid import UUID

import pytest

from gateway.replies.command import ChoiceSettings, main
from gateway.replies.undeliverable import Selection
from niyama.errors import ConfigurationError

ONE, OTHER = UUID(int=1), UUID(int=2)


def chosen(*arguments: str) -> Selection:
    return ChoiceSettings.from_command_line([*arguments], "niyama replies retry").chosen


def test_a_topic_whose_name_looks_like_a_job_id_is_a_topic() -> None:
    assert chosen("--topic", str(ONE)) == Selection(str(ONE), [])
    assert chosen(str(ONE), str(OTHER), "--topic", "a") == Selection("a", [ONE, OTHER])
    assert chosen("--topic=a", str(ONE)) == Selection("a", [ONE])
    assert chosen() == Selection(None, [])


def test_an_option_of_another_action_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["retry", "--limit", "5"], ["list", str(ONE)]):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 2
        assert "unknown arguments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(["retry", "abc"], "'abc' is not a job id"), (["drop"], "choose what to drop")],
)
def test_what_is_no_choice_is_refused(arguments: list[str], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        main(arguments)
