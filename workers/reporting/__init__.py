"""What a worker tells the world: events, tokens and dead letters."""
