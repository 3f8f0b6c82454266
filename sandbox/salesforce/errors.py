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
