"""Spans of jobs: their names and attributes, the W3C context in records, and `send`."""
