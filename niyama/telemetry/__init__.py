"""What a process tells of itself: its measurements, and where they and its traces go."""
