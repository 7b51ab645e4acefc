"""What the scripts that teach are made of."""
