"""What the endpoints work with."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from gateway.api.health import Health
from gateway.api.problems import unavailable
from gateway.api.submissions import Submissions
from gateway.ledger.queries import Ledger


@dataclass(slots=True)
class Services:
    """Completed while the gateway starts, because the API answers before Kafka is connected."""

    health: Health
    ledger: Ledger
    submissions: Submissions | None = None
    """None until Kafka is connected."""
    stopping: bool = False
    """The gateway is shutting down: requests that wait for a job answer now."""

    @property
    def open_submissions(self) -> Submissions:
        """Raises ProblemError (503) while Kafka is not connected yet."""
        if self.submissions is None:
            raise unavailable("the gateway is starting; /readyz says what it waits for")
        return self.submissions


def services_of(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


ServicesDependency = Annotated[Services, Depends(services_of)]
