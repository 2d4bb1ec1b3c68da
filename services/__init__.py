"""The services and the runtime that they stand on. No service imports another; what they share is
in `schemas`.
"""
