"""How a process ends that hangs."""

import subprocess
import sys

import pytest

HANGS = """
import threading
from niyama.ending import exit_within
threading.Thread(target=threading.Event().wait).start()
exit_within(0.1)
"""
FLOOD = """
import logging
from niyama import ending
from niyama.logs import configure_logging
ending.LAST_WORDS_LIMIT_S = 1.0
{configure}
ending.end_process("the event loop has been stuck for 60 s")
"""
OURS = """
configure_logging("info", "json")
for _ in range(2_000):
    logging.info("x" * 1_000)
"""
BLOCKING = """
import os
os.set_blocking(2, False)
logging.basicConfig(level="INFO")
try:
    while os.write(2, bytes(65_536)):
        pass
except BlockingIOError:
    os.set_blocking(2, True)
"""


def test_a_process_ends_in_time_although_one_of_its_threads_hangs() -> None:
    run = subprocess.run([sys.executable, "-c", HANGS], timeout=60, check=False)
    assert run.returncode == 1


@pytest.mark.parametrize("configure", [OURS, BLOCKING], ids=["our log", "a log that blocks"])
def test_a_process_that_hangs_ends_although_nobody_reads_its_log(configure: str) -> None:
    command = [sys.executable, "-c", FLOOD.format(configure=configure)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            assert process.wait(60) == 1
        finally:
            process.kill()


def test_a_process_that_hangs_says_why_and_where_each_thread_is() -> None:
    command = [sys.executable, "-c", FLOOD.format(configure="configure_logging('info', 'text')")]
    run = subprocess.run(command, capture_output=True, timeout=60, check=False, text=True)
    assert run.returncode == 1
    assert "the event loop has been stuck for 60 s: this process ends\n" in run.stderr
    assert "thread MainThread: " in run.stderr
    assert "< end_process (ending.py:" in run.stderr
