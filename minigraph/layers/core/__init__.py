"""Layers, roles, filters and computation graphs."""
