"""Refusals of whole calls, by the names that scripted faults give them: HTTP status and body."""

from __future__ import annotations

from typing import Any

from sandbox.salesforce.errors import SfError, expired_session
from sandbox.salesforce.refusals import MESSAGES

API_DISABLED = "The REST API is not enabled for this Organization."

PRESETS: dict[str, tuple[int, Any]] = {
    # A whole call refused for what its write would meet; one record of several: see refusals.py.
    **{code: (400, SfError(code, message, []).body()) for code, message in MESSAGES.items()},
    "INVALID_SESSION_ID": (401, expired_session().body()),
    "REQUEST_LIMIT_EXCEEDED": (403, SfError("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.").body()),
    "SERVER_UNAVAILABLE": (503, SfError("SERVER_UNAVAILABLE", "The server is temporarily unavailable.").body()),
    "UNKNOWN_EXCEPTION": (
        500,
        SfError(
            "UNKNOWN_EXCEPTION",
            "An unexpected error occurred. Please include this "
            "ErrorId if you contact support: 1234567890-12345 (123456789)",
        ).body(),
    ),
    "API_DISABLED_FOR_ORG": (403, SfError("API_DISABLED_FOR_ORG", API_DISABLED).body()),
    "API_VERSION_RETIRED": (410, SfError("GONE", "The API version v67.0 has been retired.").body()),
    "INVALID_FIELD": (400, SfError("INVALID_FIELD", "\nERROR at Row:1:Column:8\nNo such column").body()),
    "INVALID_TYPE": (400, SfError("INVALID_TYPE", "sObject type 'Order' is not supported.").body()),
    "INSUFFICIENT_ACCESS": (
        403,
        SfError("INSUFFICIENT_ACCESS_OR_READONLY", "insufficient access rights on cross-reference id", []).body(),
    ),
    "INVALID_GRANT": (400, {"error": "invalid_grant", "error_description": "user hasn't approved this consumer"}),
    "INVALID_APP_ACCESS": (
        400,
        {"error": "invalid_app_access", "error_description": "user is not admin approved to access this app"},
    ),
}
