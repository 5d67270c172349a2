"""What sites tell each other of their load: read from their parts, turned into rates, exchanged by agents."""
