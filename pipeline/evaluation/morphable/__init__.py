"""Morphable models of a store's people."""
