"""`headend doctor`: what this machine has and lacks, and what to do about it."""

from serving.doctor.command import command

__all__ = ["command"]
