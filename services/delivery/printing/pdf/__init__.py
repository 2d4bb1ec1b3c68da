"""The writer of PDF files."""
