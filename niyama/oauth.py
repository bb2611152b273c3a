"""Tokens for SASL/OAUTHBEARER."""

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

import httpx
from aiokafka.abc import AbstractTokenProvider
from aiokafka.errors import KafkaConnectionError
from pydantic import BaseModel, Field

log = logging.getLogger(__name__)

TIMEOUT_S = 10.0
MAX_ANSWER_BYTES = 64 * 1024
REFRESH_SHARE = 0.8
"""A token is replaced after this share of its lifetime."""
UNKNOWN_LIFETIME_S = 60.0
"""Of a token whose endpoint does not say when it expires."""
RETRY_INTERVAL_S = 10.0
"""Between attempts to replace a token that is still good."""


class TokenError(KafkaConnectionError):  # type: ignore[misc]
    """There is no token now: clients retry, as they do when no broker can be reached."""


class TokenFile(AbstractTokenProvider):  # type: ignore[misc]
    """A token that somebody else keeps fresh, such as Kubernetes in a projected volume."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def token(self) -> str:
        """Read again for every connection. Raises TokenError."""
        try:
            return await asyncio.to_thread(self.read)
        except ValueError as error:
            raise TokenError(str(error)) from error

    def read(self) -> str:
        """Raises ValueError."""
        try:
            token = self._path.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise ValueError(f"the token file {self._path} cannot be read: {reason}") from error
        if not token:
            raise ValueError(f"the token file {self._path} is empty")
        return token


class TokenResponse(BaseModel):
    """RFC 6749, section 5.1."""

    access_token: str = Field(min_length=1)
    expires_in: float = Field(default=UNKNOWN_LIFETIME_S, gt=0, allow_inf_nan=False)


class ClientCredentials(AbstractTokenProvider):  # type: ignore[misc]
    """Tokens of an OAuth 2.0 endpoint, by the client credentials grant (RFC 6749, section 4.4)."""

    def __init__(
        self,
        url: str,
        client_id: str,
        client_secret: str,
        scope: str | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """`clock` gives monotonic seconds; `transport` replaces the network."""
        self._url = url
        self._credentials = httpx.BasicAuth(client_id, client_secret)
        self._form = {"grant_type": "client_credentials"} | ({"scope": scope} if scope else {})
        self._clock = clock
        self._transport = transport
        self._token = ""
        self._refresh_at_s = self._expires_at_s = clock()
        self._lock = asyncio.Lock()

    async def token(self) -> str:
        """A token that has not expired. Raises TokenError."""
        if self._lock.locked() and not self._has_expired():
            return self._token  # who asks for the next one waits, nobody else does
        async with self._lock:  # clients that connect at the same time share one request
            if self._clock() >= self._refresh_at_s:
                await self._refresh()
            return self._token

    async def _refresh(self) -> None:
        asked_at_s = self._clock()
        try:
            response = await self._request()
        except (httpx.HTTPError, TimeoutError, ValueError) as error:
            reason = f"{self._url} gives no token: {_explain(error)}"
            if self._has_expired():
                raise TokenError(reason) from error
            self._refresh_at_s = min(self._expires_at_s, self._clock() + RETRY_INTERVAL_S)
            log.warning("%s; the last one is used until it expires", reason)
            return
        self._token = response.access_token
        self._expires_at_s = asked_at_s + response.expires_in
        self._refresh_at_s = asked_at_s + REFRESH_SHARE * response.expires_in

    def _has_expired(self) -> bool:
        return self._clock() >= self._expires_at_s

    async def _request(self) -> TokenResponse:
        """Raises httpx.HTTPError, TimeoutError and, when the answer is no token, ValueError."""
        # httpx bounds each step of a request; bytes that drip in would never be late.
        async with (
            asyncio.timeout(TIMEOUT_S),
            httpx.AsyncClient(
                auth=self._credentials, timeout=TIMEOUT_S, transport=self._transport
            ) as client,
            client.stream("POST", self._url, data=self._form) as answer,
        ):
            answer.raise_for_status()
            return TokenResponse.model_validate_json(await _body(answer))


async def _body(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for some in answer.aiter_bytes():
        body += some
        if len(body) > MAX_ANSWER_BYTES:
            raise ValueError(f"the answer has more than {MAX_ANSWER_BYTES:,} bytes")
    return bytes(body)


def _explain(error: Exception) -> str:
    """Never with the answer itself, which may hold a token."""
    match error:
        case httpx.HTTPStatusError():
            return f"status {error.response.status_code}"
        case TimeoutError():
            return f"no answer within {TIMEOUT_S:g} s"
        case ValueError():
            return "its answer is not a token response"
        case _:
            return repr(error)
