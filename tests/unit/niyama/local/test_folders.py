"""Where a stack keeps its things."""

import os
import stat
from pathlib import Path

import pytest

from niyama.local.errors import LocalStackError
from niyama.local.folders import SYSTEM_STATE, default_state_dir, make_dir


def test_root_keeps_its_state_where_the_user_of_postgres_may_enter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert default_state_dir() == SYSTEM_STATE


def test_others_keep_it_where_their_desktop_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert default_state_dir() == tmp_path / "niyama"


def test_a_folder_that_cannot_be_made_is_named_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LocalStackError, match=r"cannot write logs in .*file/x: Not a directory"):
        make_dir(tmp_path / "file" / "x", purpose="logs")


def test_a_folder_that_takes_no_files_is_named_too() -> None:
    with pytest.raises(LocalStackError, match="cannot write logs in /proc/self"):
        make_dir(Path("/proc/self"), purpose="logs")


def test_what_it_makes_can_be_entered_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        made = make_dir(tmp_path / "a" / "b", purpose="logs")
    finally:
        os.umask(before)
    assert [stat.S_IMODE(folder.stat().st_mode) for folder in (made, made.parent)] == [0o755] * 2


def test_making_a_folder_leaves_nothing_in_it(tmp_path: Path) -> None:
    assert list(make_dir(tmp_path / "a" / "b", purpose="logs").iterdir()) == []
