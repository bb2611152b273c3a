"""Which partitions a worker has, and how far each of them is done."""
