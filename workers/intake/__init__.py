"""Reading jobs from Kafka: how much, which, and what is done with each record."""
