"""Reconciliation: threads poll vendors for what webhooks lost, and the lane's tick makes callbacks
of what they found.

A page's cursor and its callbacks commit together. If a process dies between request and commit, the
page is lost and requested again. What was found twice is a duplicate, because its callbacks are
decided like any other.
"""
