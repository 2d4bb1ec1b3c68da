"""What operators look at and change: the commands of the runtime in `stubline`."""
