"""What operators look at and change: the commands of ingest in `stubline`."""
