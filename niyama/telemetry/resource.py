"""Which process measurements and spans come from."""

import os
import socket
from importlib.metadata import version

from opentelemetry.sdk.resources import Resource

POOL = "niyama.pool"


def resource_of(service: str, pool: str, instance: str | None = None) -> Resource:
    """Describes this process; what OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say is added.

    `service` is a name such as "niyama-worker"; `instance` is unique among the processes of that
    name, by default made of the host and the process id.
    """
    own = {
        "service.namespace": "niyama",
        "service.version": version("niyama"),
        "service.instance.id": instance or f"{socket.gethostname()}-{os.getpid()}",
        POOL: pool,
    }
    if "OTEL_SERVICE_NAME" not in os.environ:
        own["service.name"] = service
    return Resource.create(own)
