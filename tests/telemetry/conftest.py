"""A stack with SGLang that tells a real collector of its jobs."""

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from niyama.local.stack import LocalStack, StackOptions
from tests.support.otel_collector import RunningCollector, otel_collector

START_LIMIT_S = 400.0


@pytest.fixture(scope="session")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningCollector]:
    with otel_collector(tmp_path_factory.mktemp("collector")) as running:
        yield running


@pytest.fixture(scope="session")
def stack(state_dir: Path, collector: RunningCollector) -> Iterator[LocalStack]:
    """It samples nothing by itself: what arrives was sampled by the producer, or late."""
    environment = {"NIYAMA_OTLP_ENDPOINT": collector.endpoint, "NIYAMA_TRACE_SAMPLE_RATIO": "0"}
    arguments = ("--chunked-prefill-size", "128", "--max-total-tokens", "6144")
    options = StackOptions(state_dir / "traced", env=environment, worker_arguments=arguments)
    with ExitStack() as exits:
        runner = exits.enter_context(asyncio.Runner())
        running = LocalStack(options)
        runner.run(asyncio.wait_for(running.__aenter__(), START_LIMIT_S))
        exits.callback(lambda: runner.run(running.__aexit__()))
        yield running
