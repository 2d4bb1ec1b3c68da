"""Where WooCommerce's Adyen plugin writes the payment into an order's metadata."""

PAYMENT_META = frozenset({"_adyen_psp_reference"})
