"""Ticket Evolution."""
