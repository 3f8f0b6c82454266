"""A ledger that earlier code filled; see fill.py."""
