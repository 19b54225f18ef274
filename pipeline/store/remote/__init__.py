"""Stores behind a URL: objects, transfers, and mirrors that hold what was read of them."""
