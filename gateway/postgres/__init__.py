"""How to reach Postgres: its URL as libpq reads it, and connections with a bound on every wait."""
