"""Triton Inference Server: its configuration, repository, models and process."""
