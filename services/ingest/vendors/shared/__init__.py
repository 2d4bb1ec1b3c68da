"""What several vendors share: signatures, amounts, texts, polls, and the shape of a source."""
