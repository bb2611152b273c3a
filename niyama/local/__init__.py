"""Kafka, Postgres, gateway and worker on one machine, without Docker."""
