"""Pure decisions of ingest: what a callback reports, and what is known of an order and of a payment
after it.
"""
