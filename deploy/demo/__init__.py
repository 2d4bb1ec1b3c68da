"""A shop's evening through every stage, on real servers: what `make demo` plays. It ends with a
reconciliation.
"""
