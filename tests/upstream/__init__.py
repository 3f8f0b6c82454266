"""Misbehaving servers for the tests of the upstream clients."""
