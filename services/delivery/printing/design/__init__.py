"""A design as its author wrote it, and its page for one campaign."""
