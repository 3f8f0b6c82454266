"""The root of the one error tree."""

from __future__ import annotations


class PortalError(Exception):
    """`str()` of any of these may be logged and shown to an operator: no secret, no customer data."""
