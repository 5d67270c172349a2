"""What runs: cards, export, parity, bundles, engines and their store."""
