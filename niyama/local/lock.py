"""One stack per state folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from niyama.local.errors import LocalStackError


@contextmanager
def locked(state_dir: Path) -> Iterator[None]:
    """Hold `state_dir` exclusively. The lock ends with this process, even when that is killed.

    Raises LocalStackError naming the process that holds it.
    """
    with (state_dir / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise LocalStackError(
                f"{state_dir} is in use by another local stack (process {file.read().strip()}). "
                "Stop that one, or choose another folder with --state (NIYAMA_STATE)."
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
