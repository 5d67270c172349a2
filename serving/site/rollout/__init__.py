"""Changing a fleet step by step, with a judgement at every step and a way back from each."""
