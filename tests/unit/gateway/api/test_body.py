"""Reading a request's body."""

import pytest
from fastapi import Request
from starlette.types import Message

from gateway.api.body import read_json_body
from gateway.api.problems import ProblemError


async def test_a_client_that_leaves_while_it_sends_is_no_error_of_the_gateway() -> None:
    sent: list[Message] = [
        {"type": "http.request", "body": b'{"prompt": "', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return sent.pop(0)

    with pytest.raises(ProblemError) as refused:
        await read_json_body(Request({"type": "http", "headers": []}, receive))
    assert refused.value.problem.status == 400
