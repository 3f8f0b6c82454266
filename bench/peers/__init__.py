"""Who `make bench` measures the portal beside: other programs, and the obvious ways to write the same."""
