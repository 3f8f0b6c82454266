"""Measurements; docs/performance.md says what of."""
