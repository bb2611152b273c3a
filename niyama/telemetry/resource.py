"""Which process measurements and spans come from."""

import os
import socket
from importlib.metadata import version

from opentelemetry.sdk.resources import OTELResourceDetector, Resource

POOL = "niyama.pool"


def resource_of(service: str, pool: str, instance: str | None = None) -> Resource:
    """Describes this process; what OTEL_RESOURCE_ATTRIBUTES and OTEL_SERVICE_NAME say goes first.

    `service` is a name such as "niyama-worker"; `instance` is unique among the processes of that
    name, by default made of the host and the process id.
    """
    own = {
        "service.name": service,
        "service.namespace": "niyama",
        "service.version": version("niyama"),
        "service.instance.id": instance or f"{socket.gethostname()}-{os.getpid()}",
        POOL: pool,
    }
    given = OTELResourceDetector().detect().attributes
    return Resource.create({name: value for name, value in own.items() if name not in given})
