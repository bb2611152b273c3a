"""Terminal events for the topics that jobs named."""
