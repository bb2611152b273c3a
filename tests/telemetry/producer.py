"""A producer's own program that traces: `python -m tests.telemetry.producer`.

Its only lines about tracing are those that every program with OpenTelemetry's SDK has. Prints the
ids of its trace and of its job.
"""

import asyncio

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from niyama import ChatMessage, JobRequest, Producer


async def main() -> None:
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    trace.set_tracer_provider(provider)
    tracer = trace.get_tracer("shop")
    async with Producer() as producer:
        with tracer.start_as_current_span("describe article") as span:
            ask = ChatMessage(role="user", content="Hello " * 60)
            job = JobRequest(model="niyama-tiny", messages=[ask], qos="chat", max_tokens=8)
            acknowledged = await producer.publish(job)
    provider.shutdown()
    print(f"{span.get_span_context().trace_id:032x}", acknowledged.job_id)


if __name__ == "__main__":
    asyncio.run(main())
