"""Passes over graphs whose sizes are known."""
