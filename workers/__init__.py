"""The worker: takes jobs from Kafka, runs them on its engine and reports what became of them."""
