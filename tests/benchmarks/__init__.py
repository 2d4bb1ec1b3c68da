"""Figures beside their limits, measured in the same run. `make bench` prints them all; medians, for
machines are noisy.
"""
