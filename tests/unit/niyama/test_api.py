"""What commands say when a gateway refuses, is silent, or is something else."""

from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from niyama.api import Api, ApiSettings
from niyama.errors import ConfigurationError, NiyamaError, UnavailableError

LOCAL = ApiSettings(api_url="http://gateway")


def answering(status_code: int, content: str) -> Api:
    answer = httpx.Response(status_code, text=content)
    return Api(LOCAL, httpx.MockTransport(lambda _: answer))


def refuse(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("refused", request=request)


def test_what_the_gateway_says_is_wrong_is_said() -> None:
    with pytest.raises(NiyamaError, match="no job"):
        answering(404, '{"detail": "no job x"}').get("/v1/jobs/x")


@pytest.mark.parametrize("content", ["<html>", '"busy"', "[]", "null"])
@pytest.mark.parametrize("status_code", [200, 502])
def test_what_is_no_gateway_is_told_from_one(status_code: int, content: str) -> None:
    with pytest.raises(UnavailableError, match=f"status {status_code}, .* no gateway's API"):
        answering(status_code, content).get("/v1/jobs/x")


def test_a_gateway_that_does_not_answer_and_a_password_that_is_not_shown() -> None:
    settings = ApiSettings(api_url="https://admin:s3cret@gateway")
    with pytest.raises(UnavailableError, match="--api-url") as raised:
        Api(settings, httpx.MockTransport(refuse)).get("/")
    assert "s3cret" not in str(raised.value)


def test_the_token_is_sent() -> None:
    def echo(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"got": request.headers["authorization"]})

    settings = ApiSettings(api_url="https://gateway", api_token=SecretStr("t0ken"))
    assert Api(settings, httpx.MockTransport(echo)).get("/") == {"got": "Bearer t0ken"}


def test_settings_that_cannot_be_used() -> None:
    with pytest.raises(ConfigurationError, match="--api-url"):
        Api(ApiSettings(api_url="http://[::1"))
    with pytest.raises(ConfigurationError, match="--api-ca-file"):
        Api(ApiSettings(api_ca_file=Path("/nowhere.pem")))
