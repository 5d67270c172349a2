"""A local site's life: its parts, their supervision and their state."""
