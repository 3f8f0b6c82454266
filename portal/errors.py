"""The root of the one error tree."""

from __future__ import annotations


class PortalError(Exception):
    """`str()` of any of these may be logged and shown to an operator: no secret, no customer data."""


class NonceStoreUnavailable(PortalError):
    """Redis can't be asked, and this is production: nothing may be accepted."""
