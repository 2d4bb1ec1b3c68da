"""What several vendors have in common: signatures, amounts, texts, and the shape of a source."""
