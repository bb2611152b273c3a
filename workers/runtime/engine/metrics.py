"""SGLang's own metrics, beside the worker's.

SGLang's processes write them to files, as Prometheus' client library does with several processes.
"""

import logging
import os
import tempfile
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, values
from prometheus_client.core import Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

from niyama.logs import Throttle

log = logging.getLogger(__name__)

ARGUMENT = "--enable-metrics"
"""Of SGLang: to keep them."""
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"


class SglangMetrics(Collector):
    """To be made before SGLang is started."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="niyama-metrics-")
        folder = os.environ.setdefault(FOLDER_VARIABLE, self._folder.name)
        # The library looked for the variable when it was imported.
        values.ValueClass = values.get_value_class()  # type: ignore[no-untyped-call]
        self._files = MultiProcessCollector(  # type: ignore[no-untyped-call]
            CollectorRegistry(), folder
        )
        self._throttle = Throttle()

    def collect(self) -> Iterable[Metric]:
        """A file that a process was killed over costs nobody the worker's own metrics."""
        try:
            return list(self._files.collect())  # type: ignore[no-untyped-call]
        except Exception:
            self._throttle.exception(log, "SGLang's metrics cannot be read")
            return []
