"""What operators see and change: the commands of the runtime in `stubline`."""
