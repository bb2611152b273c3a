"""Folders of the local stack: where they live by default, and making them."""

import os
import shutil
from pathlib import Path

from niyama.local.errors import ChildDiedError, LocalStackError

SYSTEM_STATE = Path("/var/lib/niyama")
SYSTEM_CACHE = Path("/var/cache/niyama")
_DISK_FULL = "No space left on device"


def default_state_dir() -> Path:
    """Where a stack keeps its data: per user, and for root where Postgres's own user may enter."""
    if os.geteuid() == 0:
        return SYSTEM_STATE
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "niyama"


def cache_dir() -> Path:
    """For downloads that every clone and stack of this user shares."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "niyama"


def make_dir(path: Path, *, purpose: str) -> Path:
    """Make `path` and its parents. Raises LocalStackError when that, or writing there, fails.

    Every user may enter the folders it makes, regardless of the umask: Postgres has its own user.
    """
    try:
        for folder in reversed([path, *path.parents]):
            if not folder.exists():
                folder.mkdir(exist_ok=True)
                folder.chmod(0o755)
        probe = path / f".write-{os.getpid()}"
        probe.write_bytes(bytes(4096))
        probe.unlink()
    except OSError as error:
        raise LocalStackError(f"cannot write {purpose} in {path}: {error.strerror}") from error
    return path


def explain_death(error: ChildDiedError, folder: Path, *, consequence: str) -> LocalStackError:
    """`error`, unless its cause is that the disk of `folder` is full: then that, in a sentence."""
    free_mib = shutil.disk_usage(folder).free // 2**20
    if _DISK_FULL not in error.log_excerpt and free_mib > 0:
        return error
    return LocalStackError(
        f"the disk of {folder} is full ({free_mib} MiB free), so {consequence}: "
        f"free some space or choose another folder with --state\n{error}"
    )


def publish(finished: Path, final: Path) -> None:
    """Move a folder to where others look for it, unless another process was faster."""
    try:
        finished.rename(final)
    except OSError:
        if not final.is_dir():
            raise
