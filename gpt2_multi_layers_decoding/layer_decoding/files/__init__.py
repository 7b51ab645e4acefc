"""One result as the bytes of a file."""
