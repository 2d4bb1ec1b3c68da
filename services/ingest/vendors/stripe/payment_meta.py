"""Where WooCommerce's Stripe plugin writes the payment into an order's metadata."""

PAYMENT_META = frozenset({"_stripe_intent_id", "_stripe_charge_id"})
