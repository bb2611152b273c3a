"""One stack per state folder."""

import os
from pathlib import Path

import pytest

from niyama.local.errors import LocalStackError
from niyama.local.lock import locked


def test_a_second_stack_learns_which_process_holds_the_folder(tmp_path: Path) -> None:
    holder = rf"in use by another local stack \(process {os.getpid()}\).*--state"
    with locked(tmp_path), pytest.raises(LocalStackError, match=holder), locked(tmp_path):
        pass


def test_the_folder_is_free_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with locked(tmp_path):
            assert (tmp_path / "lock").read_text() == str(os.getpid())
