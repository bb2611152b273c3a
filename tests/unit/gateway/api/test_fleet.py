"""A list of a large fleet holds up nobody else."""

import asyncio

import pytest

from gateway.api import fleet
from gateway.api.view import View


class _Shown(View):
    number: int


async def test_what_is_listed_is_made_and_shown_in_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet, "SHOWN_AT_ONCE_BYTES", 1)
    made: list[int] = []

    def view(number: int) -> View:
        made.append(number)
        return _Shown(number=number)

    listing = asyncio.ensure_future(fleet._in_turns(map(view, range(5))))
    for turn in range(5):
        assert len(made) == turn
        await asyncio.sleep(0)
    assert await listing == b'{"number":0},{"number":1},{"number":2},{"number":3},{"number":4}'
