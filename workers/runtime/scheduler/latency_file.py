"""Where the latency model of one model on one device is kept between starts.

Beside the samples stands the model fitted to them, in the form that
`niyama simulate --profile FILE` reads.
"""

import contextlib
import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from workers.latency.files import write_atomically
from workers.latency.fit import Sample
from workers.latency.model import LatencyModel
from workers.latency.profiles import Profile, save_profile

log = logging.getLogger(__name__)

DIRECTORY_VARIABLE = "NIYAMA_LATENCY_DIR"
"""Folder of the files; empty: nothing is kept. Default: niyama/latency in the user's cache."""

_SCHEMA_VERSION = 1


class LatencyFile:
    """The file of one `subject`: everything that an iteration's duration depends on.

    A file that cannot be read or written is logged; serving continues without it. Several workers
    may share the folder.
    """

    def __init__(self, subject: Mapping[str, object], environment: Mapping[str, str]) -> None:
        self._subject = {name: str(value) for name, value in subject.items()}
        folder = _directory(environment)
        self._path = folder / f"{_name(self._subject)}.samples.json" if folder else None

    def load(self) -> list[Sample]:
        """The samples of earlier runs; an empty list when there are none."""
        if self._path is None or not self._path.exists():
            return []
        try:
            content = json.loads(self._path.read_text())
            if content["schema_version"] != _SCHEMA_VERSION:
                return []
            return [_sample(*row) for row in content["samples"]]
        except Exception as error:  # whatever it holds, the engine starts
            log.warning("%s cannot be read and will be replaced: %s", self._path, error)
            return []

    def save(self, samples: Sequence[Sample], model: LatencyModel, kv_tokens: int) -> None:
        if self._path is None:
            return
        content = {"schema_version": _SCHEMA_VERSION, "samples": samples}
        name = self._path.name.removesuffix(".samples.json")
        provenance = ", ".join(f"{key} {value}" for key, value in self._subject.items())
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(self._path, json.dumps(content))
            profile = Profile(name, model, kv_tokens, f"measured by a worker: {provenance}")
            save_profile(profile, self._path.with_name(f"{name}.json"))
        except OSError as error:
            log.warning("%s cannot be written; set %s: %s", self._path, DIRECTORY_VARIABLE, error)
        except Exception:  # the scheduler goes on without it
            log.exception("the latency model cannot be kept in %s", self._path)


def _sample(
    tokens: int,
    context: int,
    decodes: int,
    decode_context: int,
    s: float,
    pairs: float | None = None,
) -> Sample:
    """One row of the file; rows from before `pairs` were kept have none."""
    batch = (int(tokens), int(context), int(decodes), int(decode_context))
    return Sample(*batch, float(s), None if pairs is None else float(pairs))


def _directory(environment: Mapping[str, str]) -> Path | None:
    if (named := environment.get(DIRECTORY_VARIABLE)) is not None:
        return Path(named) if named else None
    with contextlib.suppress(RuntimeError):  # a user without a home
        cache = environment.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        return Path(cache) / "niyama" / "latency"
    return None


def _name(subject: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(subject, sort_keys=True).encode()).hexdigest()[:8]
    readable = f"{Path(subject['model']).name}-{subject['device']}".lower()
    return f"{re.sub('[^a-z0-9.]+', '-', readable).strip('-')}-{digest}"
