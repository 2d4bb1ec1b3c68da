"""A storefront's own orders, as CloudEvents."""
