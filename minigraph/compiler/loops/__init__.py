"""Fusion into loop nests, and what is decided about memory before a nest is printed."""
