"""What decoding returns and rendering takes: frozen dataclasses of plain Python values, no torch and no text."""
