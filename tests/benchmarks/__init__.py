"""Figures beside their limits, measured in the same run: `make bench` prints all of them. They are
medians, because machines are noisy.
"""
