"""Tokens: asked for once, replaced before they expire, and never shown."""

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import parse_qs

import httpx
import pytest

from niyama.oauth import TIMEOUT_S, ClientCredentials, TokenError, TokenFile
from tests.support.clock import Clock
from tests.support.virtual_time import run_in_virtual_time

URL = "https://id.example/token"


class Endpoint(httpx.AsyncBaseTransport):
    """Answers with tokens numbered from 1, until told otherwise."""

    def __init__(self, **fields: object) -> None:
        self.fields = fields
        self.requests: list[httpx.Request] = []
        self.failure: httpx.Response | Exception | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if isinstance(self.failure, Exception):
            raise self.failure
        if self.failure is not None:
            return self.failure
        token = f"token-{len(self.requests)}"
        return httpx.Response(200, json={"access_token": token} | self.fields)


class HangingEndpoint(Endpoint):
    """Answers the first request only."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self.requests:
            self.requests.append(request)
            await asyncio.Event().wait()
        return await super().handle_async_request(request)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def tokens(endpoint: Endpoint, clock: Clock, scope: str | None = None) -> ClientCredentials:
    return ClientCredentials(URL, "worker", "s3cret", scope, clock=clock, transport=endpoint)


async def test_the_endpoint_is_asked_with_client_credentials(clock: Clock) -> None:
    endpoint = Endpoint(expires_in=100)
    assert await tokens(endpoint, clock, "kafka").token() == "token-1"
    [request] = endpoint.requests
    form = parse_qs(request.content.decode())
    assert form == {"grant_type": ["client_credentials"], "scope": ["kafka"]}
    assert httpx.BasicAuth("worker", "s3cret")._auth_header == request.headers["Authorization"]


async def test_a_token_is_kept_and_replaced_before_it_expires(clock: Clock) -> None:
    source = tokens(Endpoint(expires_in=100), clock)
    assert await source.token() == "token-1"
    clock.now_s += 79
    assert await source.token() == "token-1"
    clock.now_s += 1
    assert await source.token() == "token-2"


async def test_a_token_without_a_lifetime_is_kept_for_a_minute(clock: Clock) -> None:
    source = tokens(Endpoint(), clock)
    assert await source.token() == "token-1"
    clock.now_s += 47
    assert await source.token() == "token-1"
    clock.now_s += 1
    assert await source.token() == "token-2"


@pytest.mark.parametrize(
    ("failure", "says"),
    [
        (httpx.Response(401, text="s3cret"), "gives no token: status 401"),
        (httpx.Response(200, text="token-of-somebody"), "its answer is not a token response"),
        (httpx.Response(200, json={"access_token": ""}), "its answer is not a token response"),
        (
            httpx.Response(200, text='{"access_token": "t", "expires_in": Infinity}'),
            "its answer is not a token response",
        ),
        (httpx.ConnectError("no route"), "no route"),
    ],
)
async def test_a_failure_is_retried_like_an_outage_of_kafka(
    clock: Clock, failure: httpx.Response | Exception, says: str
) -> None:
    endpoint = Endpoint(expires_in=100)
    endpoint.failure = failure
    source = tokens(endpoint, clock)
    with pytest.raises(TokenError, match=says) as raised:
        await source.token()
    assert raised.value.retriable
    assert "s3cret" not in str(raised.value)
    assert "token-of-somebody" not in str(raised.value)
    endpoint.failure = None
    assert await source.token() == "token-2"


class Drip(httpx.AsyncByteStream):
    """A body that goes on forever, a kilobyte every `gap_s`."""

    def __init__(self, gap_s: float) -> None:
        self._gap_s = gap_s

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            await asyncio.sleep(self._gap_s)
            yield b" " * 1_000


@pytest.mark.parametrize(
    ("gap_s", "says"),
    [(TIMEOUT_S / 2, "no answer within 10 s"), (0, "its answer is not a token response")],
    ids=["slow", "large"],
)
def test_an_answer_without_an_end_is_given_up(clock: Clock, gap_s: float, says: str) -> None:
    endpoint = Endpoint(expires_in=100)
    endpoint.failure = httpx.Response(200, stream=Drip(gap_s))

    async def ask() -> str:
        source = tokens(endpoint, clock)
        with pytest.raises(TokenError, match=says):
            await source.token()
        endpoint.failure = None
        return await source.token()

    assert run_in_virtual_time(ask()) == "token-2"


async def test_the_last_token_serves_until_it_expires(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    endpoint = Endpoint(expires_in=100)
    source = tokens(endpoint, clock)
    await source.token()
    endpoint.failure = httpx.ConnectError("no route")
    clock.now_s += 99
    with caplog.at_level(logging.WARNING, "niyama.oauth"):
        assert await source.token() == "token-1"
    assert "the last one is used until it expires" in caplog.text
    clock.now_s += 1
    with pytest.raises(TokenError):
        await source.token()


def test_an_endpoint_that_hangs_holds_up_one_connection_while_the_last_token_is_good() -> None:
    async def connect() -> tuple[list[float], int]:
        clock = asyncio.get_running_loop().time
        endpoint = HangingEndpoint(expires_in=3600)
        source = ClientCredentials(URL, "worker", "s3cret", clock=clock, transport=endpoint)
        await source.token()
        await asyncio.sleep(0.85 * 3600)
        began_s = clock()

        async def waited_s() -> float:
            assert await source.token() == "token-1"
            return clock() - began_s

        waits = await asyncio.gather(*(waited_s() for _ in range(15)))
        began_s = clock()
        waits.append(await waited_s())  # and the next attempt is not at once
        return waits, len(endpoint.requests)

    assert run_in_virtual_time(connect()) == ([TIMEOUT_S, *[0] * 15], 2)


def test_a_token_that_expires_during_the_request_for_the_next_is_not_given() -> None:
    async def connect() -> None:
        clock = asyncio.get_running_loop().time
        source = ClientCredentials(
            URL, "worker", "s3cret", clock=clock, transport=HangingEndpoint(expires_in=100)
        )
        await source.token()
        await asyncio.sleep(95)
        with pytest.raises(TokenError):
            await source.token()

    run_in_virtual_time(connect())


async def test_a_token_file_is_read_again_for_every_connection(tmp_path: Path) -> None:
    path = tmp_path / "token"
    source = TokenFile(path)
    path.write_text("first\n")
    assert await source.token() == "first"
    path.write_text("second\n")
    assert await source.token() == "second"
    path.unlink()
    with pytest.raises(TokenError, match="cannot be read: No such file"):
        await source.token()
