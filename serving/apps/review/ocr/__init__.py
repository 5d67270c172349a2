"""Reading text in pictures with PP-OCR: find lines, turn them upright, read them."""
