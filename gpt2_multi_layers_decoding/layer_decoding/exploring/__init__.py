"""Walking over layers and tokens: a board with a cursor, what its keys do, and the screen that shows it."""
