"""Batch normalization and its relatives."""
