"""Vendors that are asked over HTTP: thin, typed, signed where they want it."""
