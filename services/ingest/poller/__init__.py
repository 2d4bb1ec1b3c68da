"""Reconciliation: a thread asks vendors what webhooks lost, the lane's tick makes callbacks of what
it found.

A page's cursor and its callbacks commit together. Whatever dies between asking and committing loses
a page that is asked for again; what was found twice is a duplicate, for its callbacks are judged
like any other.
"""
