"""Faults at length, drawn from a seed, against real servers: what no single law thought of."""
