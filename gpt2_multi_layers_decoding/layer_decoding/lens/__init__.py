"""A model taken apart and read layer by layer."""
