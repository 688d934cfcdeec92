"""Passes over graphs of any sizes."""
