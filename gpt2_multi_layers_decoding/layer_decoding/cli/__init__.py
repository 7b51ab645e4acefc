"""What all scripts share: options, input, running, progress."""
