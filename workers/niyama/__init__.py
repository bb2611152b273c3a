"""The Niyama scheduling policy: pure decisions, no clock, no I/O, standard library only."""
