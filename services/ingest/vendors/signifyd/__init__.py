"""Signifyd."""
