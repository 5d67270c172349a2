"""Two runs of one campaign, or several rounds of each: what changed, and how sure that is."""

from loadtests.comparison.command import command
from loadtests.comparison.compare import Comparison, Ratio, compare

__all__ = ["Comparison", "Ratio", "command", "compare"]
