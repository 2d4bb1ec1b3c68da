"""Turns callbacks into what is known of an order: each fact once, however often and by whatever way
it is reported.

In        The webhook endpoint: signed callbacks over HTTP, published to callbacks.received.v1
          before they are answered. The worker: that topic, to which storefronts also publish their
          own orders, and its replays, read by the group stubline.ingest; and the responses of
          vendors that its tick polls for what their callbacks lost
Out       orders.observed.v1: all facts of an order with its next sequence; at most one event per
          order and batch. callbacks.received.v1: what polls found, like callbacks
Owns      schema ingest: callbacks (the inbox), orders (facts and sequence), payments, polls (their
          cursors), order fetches, drift notices and kept callbacks
Crash     The endpoint reports success only for what the broker has acknowledged. A callback that
          it did not answer may be in the topic or not; its sender repeats it, or a poll finds it.
          Worker: inbox, orders, outputs and the lane's position commit together or not at all. The
          next owner publishes what was committed and reads on. A repeated callback is decided
          against its order and changes nothing. A poll's cursor commits with the callbacks of its
          page; a page that is lost is requested again.
Does not  decide on an order (approval), or trust an unsigned header for more than the type of a
          callback: facts come from its signed body, or from the vendor's API.
"""
