"""Asking a gateway's API: for commands that show what it knows."""

import ssl
from pathlib import Path
from typing import Any

import httpx
from pydantic import Field, SecretStr

from niyama.command_settings import CommandSettings
from niyama.errors import ConfigurationError, NiyamaError, UnavailableError

TIMEOUT_S = 10.0


class ApiSettings(CommandSettings):
    """Where the API is, and how to get past the proxy that guards it."""

    api_url: str = Field(default="http://127.0.0.1:8080", description="URL of a gateway")
    api_token: SecretStr | None = Field(
        default=None, description="Bearer token for the proxy in front of it"
    )
    api_ca_file: Path | None = Field(
        default=None, description="PEM file of the authorities to trust [the system's]"
    )


class Api:
    """Asks the gateway that the settings name."""

    def __init__(self, settings: ApiSettings, transport: httpx.BaseTransport | None = None) -> None:
        """Raises ConfigurationError."""
        token = settings.api_token
        try:
            self._url = httpx.URL(settings.api_url)
            context = ssl.create_default_context(cafile=settings.api_ca_file)
        except httpx.InvalidURL as error:
            raise ConfigurationError(f"--api-url (NIYAMA_API_URL): {error}") from error
        except OSError as error:
            raise ConfigurationError(f"--api-ca-file (NIYAMA_API_CA_FILE): {error}") from error
        self._client = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {token.get_secret_value()}"} if token else None,
            timeout=TIMEOUT_S,
            verify=context,
            trust_env=False,
            transport=transport,
        )

    def get(self, path: str, **parameters: str | None) -> dict[str, Any]:
        """The JSON document at `path`. Raises NiyamaError with what the gateway says is wrong."""
        given = {name: value for name, value in parameters.items() if value is not None}
        shown = self._url.copy_with(username=None, password=None)
        try:
            answer = self._client.get(path, params=given)
            document = answer.json()
        except httpx.HTTPError as error:
            raise UnavailableError(
                f"no gateway answers at {shown} ({error}); --api-url (NIYAMA_API_URL) says where "
                "it is"
            ) from error
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise UnavailableError(
                f"{shown} answers with status {answer.status_code}, but it is no gateway's API"
            )
        if answer.is_error:
            raise NiyamaError(str(document.get("detail", f"{answer.status_code} from {shown}")))
        return document
