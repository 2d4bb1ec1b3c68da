"""Clients of vendors' HTTP APIs: thin, typed, and signed where the vendor requires it."""
