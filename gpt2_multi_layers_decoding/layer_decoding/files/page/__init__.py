"""The page: one HTML file with everything behind each cell, in which its styles and its script stand too."""
