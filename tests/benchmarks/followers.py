"""What clients that follow jobs cost: processor time, transactions, how soon they hear of an end.

The jobs are ended in Postgres, as by another gateway: the slower of the two ways to be woken.

    python -m tests.benchmarks.followers [FOLLOWERS]
"""

import asyncio
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import psutil

from niyama.local.ports import LOOPBACK, free_port
from niyama.local.postgres import LocalPostgres

NIYAMA = Path(sys.executable).with_name("niyama")
IDLE_S = 5.0
SETTLED_PER_S = 50
SETTLE_TIMEOUT_S = 25.0
ENDED_ONE_BY_ONE = 50
INSERT = """
INSERT INTO jobs (job_id, status, arrived_at, tenant, qos_class, kind, attempt, relegations, parks,
                  terminal_events)
SELECT unnest($1::uuid[]), 'running', now(), 't', 'c', 'batch', 1, 0, 0, 0
"""
END = """
UPDATE jobs SET status = 'completed', finished_at = now(), terminal_event_id = gen_random_uuid()
WHERE job_id = ANY($1)
"""
TRANSACTIONS = "SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()"


class Clients:
    """One connection per job, each with a request that waits for it to end."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.answered_at: dict[UUID, float] = {}
        self.refused = 0

    async def follow(self, job_id: UUID) -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, self._port)
        target = f"/v1/jobs/{job_id}?wait=60"
        writer.write(f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        self.answered_at[job_id] = time.monotonic()
        self.refused += b'"status":"completed"' not in answer
        writer.close()


async def measure(folder: Path, count: int) -> None:
    postgres = LocalPostgres(folder / "postgres", durable=False)
    port = free_port()
    environment = os.environ | {
        "NIYAMA_DATABASE_URL": postgres.url(),
        "NIYAMA_API_PORT": str(port),
        "NIYAMA_KAFKA_BOOTSTRAP": f"{LOOPBACK}:1",
        "NIYAMA_LOG_LEVEL": "error",
    }
    try:
        await postgres.start()
        subprocess.run([NIYAMA, "migrate"], env=environment, check=True)
        gateway = subprocess.Popen([NIYAMA, "gateway"], env=environment)
        try:
            await until_alive(port)
            connection = await asyncpg.connect(postgres.url())
            assert postgres.child is not None
            await report(connection, port, count, [gateway.pid, postgres.child.pid])
            await connection.close()
        finally:
            gateway.kill()
            gateway.wait()
    finally:
        await postgres.stop()


async def until_alive(port: int) -> None:
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection(LOOPBACK, port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                return writer.close()


async def report(
    connection: asyncpg.Connection, port: int, count: int, pids: Sequence[int]
) -> None:
    jobs = [uuid4() for _ in range(count)]
    await connection.execute(INSERT, jobs)
    clients = Clients(port)
    following = [asyncio.create_task(clients.follow(job_id)) for job_id in jobs]
    await until_settled(connection)
    before = [cpu_s(pid) for pid in pids], await connection.fetchval(TRANSACTIONS)
    await asyncio.sleep(IDLE_S)
    after = [cpu_s(pid) for pid in pids], await connection.fetchval(TRANSACTIONS)
    for name, start, end in zip(("gateway", "Postgres"), before[0], after[0], strict=True):
        print(f"{name}: {100 * (end - start) / IDLE_S:.0f}% of a core while {count} wait")
    print(f"{(after[1] - before[1]) / IDLE_S:.0f} transactions/s")
    delays = [await end_one(connection, clients, job_id) for job_id in jobs[:ENDED_ONE_BY_ONE]]
    delays.sort()
    print(f"end to answer: {delays[len(delays) // 2]:.0f} ms, at most {delays[-1]:.0f} ms")
    ended_at = time.monotonic()
    await connection.execute(END, jobs[ENDED_ONE_BY_ONE:])
    await asyncio.gather(*following)
    print(
        f"{count - ENDED_ONE_BY_ONE} at once: {max(clients.answered_at.values()) - ended_at:.1f} s"
    )
    print(f"{clients.refused} not told of the end")


async def until_settled(connection: asyncpg.Connection) -> None:
    """Return when every client waits, as the rate of transactions shows, or never will."""
    end_s = time.monotonic() + SETTLE_TIMEOUT_S
    rate = SETTLED_PER_S
    while rate >= SETTLED_PER_S and time.monotonic() < end_s:
        before = await connection.fetchval(TRANSACTIONS)
        await asyncio.sleep(2)  # Postgres counts with a delay of up to a second
        rate = (await connection.fetchval(TRANSACTIONS) - before) // 2


async def end_one(connection: asyncpg.Connection, clients: Clients, job_id: UUID) -> float:
    """Milliseconds from the job's end to its follower's answer."""
    ended_at = time.monotonic()
    await connection.execute(END, [job_id])
    while job_id not in clients.answered_at:
        await asyncio.sleep(0.002)
    return 1000 * (clients.answered_at[job_id] - ended_at)


def cpu_s(pid: int) -> float:
    """Processor time of a process and its children so far, in seconds."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children())]
    return sum(each.user + each.system for each in times)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with tempfile.TemporaryDirectory(prefix="niyama-followers-") as name:
        Path(name).chmod(0o755)
        asyncio.run(measure(Path(name), count))


if __name__ == "__main__":
    main()
