"""Inside the worker's process: SGLang as the worker's engine."""
