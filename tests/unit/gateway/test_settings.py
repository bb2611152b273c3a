"""The gateway's settings."""

import pytest

from gateway.bootstrap import listen
from gateway.settings import GatewaySettings
from niyama.errors import ConfigurationError


def test_a_shown_url_has_no_password() -> None:
    assert (
        "secret" not in GatewaySettings(database_url="postgresql://u:secret@h/d").shown_database_url
    )


@pytest.mark.parametrize("given", ["mysql://u:secret@h/d", "not a url: secret", ""])
def test_another_database_is_refused_without_repeating_the_password(given: str) -> None:
    with pytest.raises(ConfigurationError, match="give a Postgres URL") as caught:
        GatewaySettings.from_command_line([f"--database-url={given}"], "niyama gateway")
    assert "secret" not in str(caught.value)


def test_reply_topics_are_names_and_prefixes() -> None:
    settings = GatewaySettings(reply_topics="answers, team-a.*,")

    assert settings.reply_topic_patterns == ("answers", "team-a.*")


@pytest.mark.parametrize("given", ["team-*-a", "a b", "answers/*", "**"])
def test_another_pattern_of_reply_topics_is_refused(given: str) -> None:
    with pytest.raises(ConfigurationError, match=r"--reply-topics.*prefix that ends in"):
        GatewaySettings.from_command_line([f"--reply-topics={given}"], "niyama gateway")


def test_a_port_in_use_is_named_with_the_setting_that_changes_it() -> None:
    with listen(GatewaySettings(api_port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"port {port}: .*--api-port"):
            listen(GatewaySettings(api_port=port))
