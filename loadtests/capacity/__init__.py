"""Capacity by search: steps of load, up and down, until the knee of each pool is known with its interval."""

from loadtests.capacity.asked import command

__all__ = ["command"]
