"""Where a stack keeps its things."""

import os
import stat
from pathlib import Path

import pytest

from niyama.local.errors import ChildDiedError, LocalStackError
from niyama.local.folders import SYSTEM_STATE, default_state_dir, explain_death, make_dir


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


def test_a_death_on_a_full_disk_is_explained_and_any_other_is_left_as_it_is(tmp_path: Path) -> None:
    full = ChildDiedError("Kafka", 1, "write failed: No space left on device", "kafka.log")
    other = ChildDiedError("Kafka", 1, "out of memory", "kafka.log")

    explained = explain_death(full, tmp_path, consequence="Kafka cannot keep its log")

    assert f"the disk of {tmp_path} is full" in str(explained)
    assert "so Kafka cannot keep its log: free some space" in str(explained)
    assert str(full) in str(explained)
    assert explain_death(other, tmp_path, consequence="it cannot start") is other
