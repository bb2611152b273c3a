"""`/metrics`, for Prometheus."""

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
    content, content_type = await services.metrics.text_soon(request.headers.get("accept"))
    return Response(content, media_type=content_type)
