"""What the tests of outages share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder that Postgres's own user may enter, which pytest's tmp_path of root is not."""
    with tempfile.TemporaryDirectory(prefix="niyama-faults-") as name:
        Path(name).chmod(0o755)
        yield Path(name)
