"""Running jobs on the engine."""
