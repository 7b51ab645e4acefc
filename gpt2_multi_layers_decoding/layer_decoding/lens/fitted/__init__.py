"""A lens fitted to a model: its maps, and its file."""
