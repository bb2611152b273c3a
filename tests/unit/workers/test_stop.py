"""How a worker ends."""

import subprocess
import sys

HANGS = """
import threading
from workers.stop import exit_within
threading.Thread(target=threading.Event().wait).start()
exit_within(0.1)
"""


def test_a_process_ends_in_time_although_one_of_its_threads_hangs() -> None:
    run = subprocess.run([sys.executable, "-c", HANGS], timeout=60, check=False)
    assert run.returncode == 1
