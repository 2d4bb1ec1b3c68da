"""The protocol of the lanes in TLA+, and what runs it: README.md tells what was asked, found and
learned.
"""
