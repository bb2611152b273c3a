"""Publishes jobs to Kafka and answers from the ledger."""
