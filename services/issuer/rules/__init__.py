"""Pure decisions of the issuer: numbers, campaigns as they may be written and changed, and what a
batch of decisions gets.
"""
