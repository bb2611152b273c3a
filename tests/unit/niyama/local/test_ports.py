"""Choosing ports."""

import socket

import pytest

from niyama.local.errors import LocalStackError
from niyama.local.ports import LOOPBACK, choose_port, free_port


def test_a_port_in_use_is_named_with_the_setting_that_changes_it() -> None:
    with socket.create_server((LOOPBACK, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(LocalStackError, match=f"the API cannot use port {port}.*--api-port"):
            choose_port(port, purpose="the API", setting="--api-port")


def test_a_free_port_is_taken_as_asked() -> None:
    port = free_port()
    assert choose_port(port, purpose="x", setting="y") == port


def test_zero_is_any_free_port() -> None:
    with socket.create_server((LOOPBACK, choose_port(0, purpose="x", setting="y"))):
        pass
