"""What a worker says about how busy it is."""
