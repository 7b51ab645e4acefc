"""Training a small GPT-2 of one's own."""
