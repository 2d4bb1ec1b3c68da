"""Where WooCommerce's PayPal plugin writes the payment into an order's metadata."""

PAYMENT_META = frozenset({"_ppcp_paypal_capture_id"})
