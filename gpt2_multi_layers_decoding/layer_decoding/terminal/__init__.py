"""Text on one terminal, whatever it says: what can be shown, how wide it is, how it is coloured."""
