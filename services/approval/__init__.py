"""Decides what shall be: an order's tickets are released, wait, or are cancelled. It keeps a
receipt for each decision.

In        orders.observed.v1 and its own replays, read by the group stubline.approval
Out       orders.decided.v1: state, reasons, and what each line shall have now; at most one event
          per order and batch
Owns      schema approval: orders (the last decision) and receipts (every decision with what it went
          by; append only)
Crash     Orders, receipts, outputs and the lane's position commit together or not at all. A
          decision is a function of the observation alone, so it comes out the same however often it
          is taken and in whatever order facts came.
Does not  issue or send anything (issuer, delivery), or say how far a decision has come.
"""
