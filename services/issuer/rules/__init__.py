"""The pure rules of the issuer: numbers, what a campaign may be and become, and what a batch of
decisions gets.
"""
