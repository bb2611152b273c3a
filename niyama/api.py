"""Asking a gateway's API: for commands that show what it knows."""

from typing import Any

import httpx
from pydantic import Field

from niyama.command_settings import CommandSettings
from niyama.errors import NiyamaError, UnavailableError

TIMEOUT_S = 10.0


class ApiSettings(CommandSettings):
    """Where the API is."""

    api_url: str = Field(default="http://127.0.0.1:8080", description="URL of a gateway")


def get(url: str, path: str, transport: httpx.BaseTransport | None = None) -> Any:
    """The JSON document at `path`. Raises NiyamaError with what the gateway says is wrong."""
    try:
        with httpx.Client(
            base_url=url, timeout=TIMEOUT_S, trust_env=False, transport=transport
        ) as client:
            answer = client.get(path)
    except httpx.HTTPError as error:
        raise UnavailableError(
            f"no gateway answers at {url} ({error}); --api-url (NIYAMA_API_URL) says where it is"
        ) from error
    try:
        document = answer.json()
    except ValueError as error:
        raise UnavailableError(f"{url} answers, but it is no gateway's API") from error
    if answer.is_error:
        raise NiyamaError(str(document.get("detail", f"{answer.status_code} from {url}")))
    return document
