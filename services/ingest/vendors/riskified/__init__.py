"""Riskified."""
