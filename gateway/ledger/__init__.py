"""The ledger: what became of every job, projected from the log into Postgres."""
