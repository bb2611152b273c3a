"""A discrete-event replica that drives the scheduling policy with a latency model for a GPU."""
