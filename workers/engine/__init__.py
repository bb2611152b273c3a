"""What generates tokens for a worker: the port, and an engine without a model."""
