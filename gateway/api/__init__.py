"""The HTTP API: a door to the log, and the ledger's answers."""
