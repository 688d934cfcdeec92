"""Namespaces in which an elementwise op computes one value, as a graph of scalar operations."""
