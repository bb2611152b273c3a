"""One Apache Kafka broker on this machine, without Docker or ZooKeeper."""

import base64
import logging
import os
import uuid
from pathlib import Path

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError

from niyama.local.errors import ChildDiedError
from niyama.local.folders import explain_death, make_dir
from niyama.local.java import java
from niyama.local.kafka_jars import kafka_jars
from niyama.local.ports import LOOPBACK, choose_port, free_port
from niyama.local.process import START_TIMEOUT_S, Child, run_to_end
from schemas.topics import MAX_RECORD_BYTES

STOP_GRACE_S = 15.0
NODE_ID = 1
BATCH_OVERHEAD_BYTES = 64 * 1024

JVM_OPTIONS = (
    "-XX:+UseSerialGC",  # few threads: the processors are for the model
    # Java's second compiler gains a broker little that runs for minutes, or is seldom busy, and
    # takes a third of a processor meanwhile.
    "-XX:TieredStopAtLevel=1",
    "-XX:+ExitOnOutOfMemoryError",
    "-Dlog4j2.configurationFile=log4j2.properties",
)
LOG4J = """\
rootLogger.level = WARN
rootLogger.appenderRef.out.ref = out
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %c{1}: %m%n
"""


class LocalKafka:
    """A single-node Kafka whose log lives in `folder` and survives restarts."""

    format_options: tuple[str, ...] = ()
    """For Kafka's storage tool, when the log is made."""

    def __init__(self, folder: Path, *, port: int = 0) -> None:
        """`port` 0 takes a free one."""
        self._folder = folder
        self._port = port
        self._broker: Child | None = None

    @property
    def bootstrap(self) -> str:
        """Where clients connect, once `start` has returned."""
        return f"{LOOPBACK}:{self._port}"

    @property
    def address(self) -> str:
        return self.bootstrap

    @property
    def child(self) -> Child | None:
        """The broker's process, if it was started."""
        return self._broker

    async def start(self) -> None:
        """Fetch, format and start what is needed; return when the broker serves clients.

        Raises LocalStackError: Java or Maven missing, port in use, folder not writable, broker
        dead (with the end of its log).
        """
        jars = await kafka_jars()
        self._port = choose_port(
            self._port, purpose="Kafka", setting="--kafka-port (NIYAMA_KAFKA_PORT)"
        )
        make_dir(self._folder, purpose="Kafka's log")
        self._write_configuration()
        command = [str(java()), *JVM_OPTIONS, "-cp", os.pathsep.join(map(str, jars))]
        try:
            await self._format(command)
            self._broker = Child(
                "Kafka",
                [*command, "-Xmx512m", "kafka.Kafka", "server.properties"],
                log_path=self._folder / "kafka.log",
                cwd=self._folder,
            )
            await self._broker.wait_until(self._serves, timeout_s=START_TIMEOUT_S)
        except ChildDiedError as error:
            raise explain_death(
                error, self._folder, consequence="Kafka cannot keep its log"
            ) from error

    async def stop(self) -> None:
        """Shut the broker down cleanly. Safe to call in any state."""
        if self._broker is not None:
            await self._broker.stop(grace_s=STOP_GRACE_S)

    async def _format(self, command: list[str]) -> None:
        if (self._folder / "data" / "meta.properties").exists():
            return
        # The first letter must not be a dash, which the tool takes for an option.
        cluster_id = "n" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        storage = ["kafka.tools.StorageTool", "format", "-t", cluster_id, "-c", "server.properties"]
        storage += self.format_options
        await run_to_end(
            "Kafka's storage format",
            [*command, *storage],
            log_path=self._folder / "kafka.log",
            cwd=self._folder,
        )

    async def _serves(self) -> bool:
        client = AIOKafkaClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5000)
        quiet = logging.getLogger("aiokafka")
        level = quiet.level
        quiet.setLevel(logging.CRITICAL)  # a broker that is still starting is no error
        try:
            await client.bootstrap()
            return bool(client.cluster.brokers())
        except KafkaError:
            return False
        finally:
            await client.close()
            quiet.setLevel(level)

    def settings(self, controller_port: int, data: Path) -> dict[str, str | int]:
        """The broker's `server.properties`."""
        return broker_settings(self._port, controller_port, data)

    def _write_configuration(self) -> None:
        settings = self.settings(free_port(), self._folder / "data")
        lines = [f"{name}={value}" for name, value in settings.items()]
        (self._folder / "server.properties").write_text("\n".join([*lines, ""]))
        (self._folder / "log4j2.properties").write_text(LOG4J)


def broker_settings(port: int, controller_port: int, data: Path) -> dict[str, str | int]:
    """`server.properties` of a node that is both broker and controller."""
    topic_factors = {
        f"{topic}.{setting}": 1
        for topic in ("transaction.state.log", "share.coordinator.state.topic")
        for setting in ("replication.factor", "min.isr", "num.partitions")
    }
    return {
        "process.roles": "broker,controller",
        "node.id": NODE_ID,
        "controller.quorum.voters": f"{NODE_ID}@{LOOPBACK}:{controller_port}",
        "listeners": f"BROKER://{LOOPBACK}:{port},CONTROLLER://{LOOPBACK}:{controller_port}",
        "advertised.listeners": f"BROKER://{LOOPBACK}:{port}",
        "listener.security.protocol.map": "BROKER:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "inter.broker.listener.name": "BROKER",
        "controller.listener.names": "CONTROLLER",
        "log.dirs": str(data),
        # After a crash the node waits out its own earlier session before it serves again.
        "broker.session.timeout.ms": 4000,
        "broker.heartbeat.interval.ms": 1000,
        "auto.create.topics.enable": "false",
        "message.max.bytes": MAX_RECORD_BYTES + BATCH_OVERHEAD_BYTES,
        "replica.fetch.max.bytes": MAX_RECORD_BYTES + BATCH_OVERHEAD_BYTES,
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 4,
        "group.initial.rebalance.delay.ms": 0,
        **topic_factors,
    }
