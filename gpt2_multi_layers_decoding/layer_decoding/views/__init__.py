"""One result as lines for a terminal."""
