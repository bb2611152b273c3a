"""`/metrics`, for Prometheus."""

import asyncio

from fastapi import APIRouter, Request, Response

from gateway.api.services import ServicesDependency

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="What this gateway has measured",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}, "description": "Prometheus' text format"}},
)
async def metrics(services: ServicesDependency, request: Request) -> Response:
    """Counters are of this process alone, since its start."""
    accept = request.headers.get("accept")
    content, content_type = await asyncio.to_thread(services.metrics.text, accept)
    return Response(content, media_type=content_type)
