"""Long streams, and sequences that a model remembers, while sites are changed and emptied: none may break."""

NAME = "streams"
TITLE = "Long streams and sequences across a roll-out, a drain and a way back; none may break."
