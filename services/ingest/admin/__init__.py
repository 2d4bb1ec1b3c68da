"""What operators use: the commands of ingest in `stubline`."""
