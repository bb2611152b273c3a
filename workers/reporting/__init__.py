"""What a worker reports: events, tokens and dead letters."""
