"""What generates tokens for a worker: the port, an operator's options, an engine without a model."""
