"""Other people's producers: Kafka's own client in Java, and librdkafka's command line."""

import asyncio
import json
import os
from pathlib import Path
from uuid import UUID, uuid4

from niyama.local.java import java
from niyama.local.kafka_jars import kafka_jars

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")
SOURCE = Path(__file__).with_name("ForeignProducer.java")
TIMEOUT_S = 120.0


def job(job_id: UUID, model: str = "null") -> str:
    """A job whose record is worth compressing."""
    document = {"job_id": str(job_id), "model": model, "qos": "chat", "prompt": "hello " * 50}
    return json.dumps(document | {"max_tokens": 2})


async def publish_with_java(bootstrap: str, topic: str, *modes: str) -> dict[str, UUID]:
    """Publish a job for each of `modes` (see ForeignProducer.java), in this order; their ids."""
    jobs = {mode: uuid4() for mode in modes}
    classpath = os.pathsep.join(map(str, await kafka_jars()))
    # Only the first compiler: the program does not run for long.
    command = [str(java()), "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", classpath]
    pairs = [text for mode, job_id in jobs.items() for text in (mode, job(job_id))]
    await _run([*command, str(SOURCE), bootstrap, topic, *pairs])
    return jobs


async def publish_with_kcat(bootstrap: str, topic: str, codec: str, *options: str) -> UUID:
    """Publish a job; its id. `options` are kcat's, such as headers."""
    job_id = uuid4()
    command = ["kcat", "-P", "-b", bootstrap, "-t", topic, "-p", "0", "-z", codec, *options]
    await _run(command, job(job_id).encode())
    return job_id


async def _run(command: list[str], given: bytes = b"") -> None:
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(TIMEOUT_S):
            printed, _ = await process.communicate(given)
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, printed.decode()
