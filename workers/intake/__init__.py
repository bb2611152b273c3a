"""Reading jobs from Kafka: which topics, how far ahead, and what becomes of each record."""
