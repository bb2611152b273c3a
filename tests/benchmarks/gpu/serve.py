"""`sglang.launch_server`, prepared as every process of a measurement."""

import runpy

from tests.benchmarks.gpu import processes

processes.prepare()

if __name__ == "__main__":
    runpy.run_module("sglang.launch_server", run_name="__main__")
