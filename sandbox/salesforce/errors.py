"""Error bodies of the REST API, in the real org's words."""

from __future__ import annotations

from typing import Any


class SfError(Exception):
    """One error: HTTP status, `errorCode`, `message`, `fields`."""

    def __init__(self, code: str, message: str, fields: list[str] | None = None, status: int = 400):
        super().__init__(message)
        self.code, self.message, self.fields, self.status = code, message, fields, status

    def body(self) -> list[dict[str, Any]]:
        """As REST answers it."""
        entry: dict[str, Any] = {"message": self.message, "errorCode": self.code}
        if self.fields is not None:
            entry["fields"] = self.fields
        return [entry]

    def in_collection(self) -> dict[str, Any]:
        """As collections and trees answer it."""
        return {"statusCode": self.code, "message": self.message, "fields": self.fields or []}


def not_found() -> SfError:
    """The resource itself isn't there."""
    return SfError("NOT_FOUND", "The requested resource does not exist", status=404)


def expired_session() -> SfError:
    """Token missing, unknown or expired."""
    return SfError("INVALID_SESSION_ID", "Session expired or invalid", status=401)


PRESETS: dict[str, tuple[int, Any]] = {
    "INVALID_SESSION_ID": (401, expired_session().body()),
    "REQUEST_LIMIT_EXCEEDED": (403, SfError("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded.").body()),
    "UNABLE_TO_LOCK_ROW": (
        400,
        SfError(
            "UNABLE_TO_LOCK_ROW",
            "unable to obtain exclusive access to this record or 1 records: 801000000000000AAA",
            [],
        ).body(),
    ),
    "ENTITY_IS_LOCKED": (400, SfError("ENTITY_IS_LOCKED", "the entity is locked for editing", []).body()),
    "SERVER_UNAVAILABLE": (503, SfError("SERVER_UNAVAILABLE", "The server is temporarily unavailable.").body()),
    "UNKNOWN_EXCEPTION": (
        500,
        SfError(
            "UNKNOWN_EXCEPTION",
            "An unexpected error occurred. Please include this "
            "ErrorId if you contact support: 1234567890-12345 (123456789)",
        ).body(),
    ),
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
