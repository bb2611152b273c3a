"""The scheduling policy: pure functions over data. No I/O, no clock, no randomness."""
