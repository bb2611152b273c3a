"""`niyama status`: how a job stands, where its time went, and what cost it its deadline."""

from typing import ClassVar
from uuid import UUID

from pydantic import Field
from pydantic_settings import CliPositionalArg
from rich.console import Console

from niyama.api import Api, ApiSettings
from niyama.errors import ConfigurationError
from niyama.job_report import report


class StatusSettings(ApiSettings):
    """Show how a job stands, where its time went, and what cost it its deadline."""

    unknown_arguments_hint: ClassVar[str] = "GET /v1/jobs lists jobs"

    job_id: CliPositionalArg[str] = Field(description="The job's id")


def main(arguments: list[str]) -> int:
    """Run the command. Raises NiyamaError with a sentence for people."""
    settings = StatusSettings.from_command_line(arguments, "niyama status")
    try:
        job_id = UUID(settings.job_id)
    except ValueError as error:
        said = f"{settings.job_id!r} is not a job id (expected a UUID)"
        raise ConfigurationError(said) from error
    job = Api(settings).get(f"/v1/jobs/{job_id}")
    console = Console(highlight=False)
    for part in report(job):
        console.print(part)
    return 0
