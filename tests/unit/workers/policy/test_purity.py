"""The policy and the latency model know the standard library and each other, and nothing else."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import workers

_ROOT = Path(workers.__file__).parent
_LATENCY = ("fit", "learner", "least_squares", "model", "prior")
_FILES = [
    *sorted((_ROOT / "policy").glob("*.py")),
    *(_ROOT / "latency" / f"{name}.py" for name in _LATENCY),
]
_OWN = ("workers.policy", *(f"workers.latency.{name}" for name in _LATENCY))


def _imported(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "relative imports are not used here"
            yield node.module or ""


@pytest.mark.parametrize("file", _FILES, ids=lambda file: f"{file.parent.name}.{file.stem}")
def test_it_imports_the_standard_library_only(file: Path) -> None:
    foreign = {
        name
        for name in _imported(file.read_text())
        if name.partition(".")[0] not in sys.stdlib_module_names and not name.startswith(_OWN)
    }
    assert not foreign
