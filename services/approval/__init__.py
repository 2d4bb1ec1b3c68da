"""Decides whether an order's tickets are released, held back or cancelled, and keeps a receipt of
each decision.

In        orders.observed.v1 and its own replays, read by the group stubline.approval
Out       orders.decided.v1: state, reasons, and how many tickets each line gets; at most one event
          per order and batch
Owns      schema approval: orders (the last decision) and receipts (every decision with its inputs;
          append only)
Crash     Orders, receipts, outputs and the lane's position commit together or not at all. A
          decision is a function of the observation alone, so it is the same however often it is
          taken and in whatever order facts came.
Does not  issue or send anything (issuer, delivery), or report how far a decision has come.
"""
