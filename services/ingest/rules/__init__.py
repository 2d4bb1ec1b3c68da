"""Pure decisions of ingest: what a callback tells, and what is known of an order and of a payment
after it.
"""
