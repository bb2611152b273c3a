"""Base of every command's settings: flags, or environment variables `NIYAMA_…`."""

from typing import ClassVar, Self

from pydantic import ValidationError
from pydantic_settings import BaseSettings, CliApp, CliSettingsSource, SettingsConfigDict

from niyama.errors import ConfigurationError
from niyama.flags import VARIABLE_PREFIX, SettingsParser, flag_of, variable_of


class CommandSettings(BaseSettings):
    """Base of one command's settings. Flags win over the environment."""

    model_config = SettingsConfigDict(
        env_prefix=VARIABLE_PREFIX,
        extra="ignore",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags="toggle",
        cli_avoid_json=True,
        cli_hide_none_type=True,
    )
    unknown_arguments_hint: ClassVar[str] = ""
    """What to say to someone who gives arguments that the command does not know."""

    @classmethod
    def from_command_line(cls, arguments: list[str], program: str) -> Self:
        """Parse `arguments`. Exits with help or usage; raises ConfigurationError."""
        try:
            return CliApp.run(cls, cli_args=arguments, cli_settings_source=cls._source(program))
        except ValidationError as error:
            raise ConfigurationError(_explain(error)) from error

    @classmethod
    def flags(cls) -> list[str]:
        """Every flag as it is typed, such as `--log-level`."""
        return cls._source("niyama").root_parser.flags

    @classmethod
    def _source(cls, program: str) -> CliSettingsSource[SettingsParser]:
        return CliSettingsSource(
            cls,
            root_parser=SettingsParser(cls, program, hint=cls.unknown_arguments_hint),
            add_argument_method=SettingsParser.add_setting,
            parse_args_method=SettingsParser.parse,
        )


def _explain(error: ValidationError) -> str:
    lines = []
    for detail in error.errors(include_url=False):
        name = "_".join(str(part) for part in detail["loc"])
        message = detail["msg"].removeprefix("Value error, ")
        setting = f"{flag_of(name)} ({variable_of(name)})"
        lines.append(f"{setting}: {message}" if name else message)
    return "\n".join(lines)
