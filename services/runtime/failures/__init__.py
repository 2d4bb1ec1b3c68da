"""What a failure is, how long to wait after it, and how often to call."""
