"""Font files: chosen, cut, shaped."""
