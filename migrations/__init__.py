"""The ledger's schema, step by step. `niyama migrate` applies it."""
