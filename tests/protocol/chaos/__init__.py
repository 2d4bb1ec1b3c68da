"""Random faults from a seed, for a long time, against real servers."""
