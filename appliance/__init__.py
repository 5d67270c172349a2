"""A site in a box."""
