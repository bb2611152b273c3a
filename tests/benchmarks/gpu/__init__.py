"""What half an hour on a GPU is to answer, in stages: `python -m tests.benchmarks.gpu --help`."""
