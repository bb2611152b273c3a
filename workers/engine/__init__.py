"""What generates tokens for a worker: the port, scheduling options, an engine without a model."""
