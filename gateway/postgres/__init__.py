"""How to reach Postgres: connection URLs as libpq reads them."""
