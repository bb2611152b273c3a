"""Files that several processes may read and write."""

import os
from pathlib import Path


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path`: a reader sees the file as it was before, or all of the new one."""
    scratch = path.with_name(f".{path.name}.{os.getpid()}")
    scratch.write_text(text)
    os.replace(scratch, path)
