"""The demonstration, `make demo`: a shop's evening through every stage, on real servers. It ends
with a reconciliation.
"""
