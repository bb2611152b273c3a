"""The API as one ASGI application."""

from fastapi import FastAPI

from gateway.api import fleet, health, jobs, metrics, openapi, problems
from gateway.api.request_metrics import RequestMetrics
from gateway.api.services import Services


def create_app(services: Services) -> FastAPI:
    """The API on top of `services`."""
    app = FastAPI(
        title="Niyama",
        version="1",
        description="Interactive and batch LLM work on the same GPUs, each with its deadlines.",
        redirect_slashes=False,
    )
    app.state.services = services
    if services.metrics.measurements.enabled:
        app.add_middleware(RequestMetrics, measurements=services.metrics.measurements)
    app.include_router(jobs.router)
    app.include_router(fleet.router)
    app.include_router(health.router)
    app.include_router(metrics.router)
    problems.install(app)
    openapi.install(app)
    return app
