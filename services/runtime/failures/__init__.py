"""What a failure is, and how long to wait after it."""
