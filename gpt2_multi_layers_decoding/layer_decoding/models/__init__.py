"""Which model a name means, where its files are, on what it runs: all up to a model ready to be read."""
