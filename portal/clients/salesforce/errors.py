"""What Salesforce's answers mean when they aren't what was asked for: about this record, the org's set-up, or passing.

A query of ours differs from another only by its ids and moments: what refuses it, but for a malformed id, is about the
org or its set-up. So is, of an update, what no other order of ours would fare better with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import InvalidOperation
from typing import Any, Final, TypeVar

from portal.clients.redaction import redact
from portal.domain.model import Setup, UpstreamError

T = TypeVar("T")

NAME: Final = "Salesforce"

#: errorCodes that may be different at the next try, though they come with a 4xx.
TRANSIENT_CODES: Final = frozenset(
    {
        "ENTITY_IS_LOCKED",
        "FUNCTIONALITY_TEMPORARILY_UNAVAILABLE",
        "INVALID_QUERY_LOCATOR",
        "INVALID_SESSION_ID",
        "QUERY_TIMEOUT",
        "REQUEST_LIMIT_EXCEEDED",
        "REQUEST_RUNNING_TOO_LONG",
        "SERVER_UNAVAILABLE",
        "UNABLE_TO_LOCK_ROW",
        "UNKNOWN_EXCEPTION",
    }
)

#: errorCodes of a query that are about the id it asks for: there is no such record.
ABOUT_THE_ID: Final = frozenset({"MALFORMED_ID", "INVALID_QUERY_FILTER_OPERATOR", "INVALID_ID_FIELD"})

_API_OFF: Final = (
    "give the user of SF_USERNAME the permission “API Enabled”, and see that the org's edition has the API"
)
_VERSION: Final = "set SF_API_VERSION to a version this org has (Setup > Apex Classes > New shows the latest)"
_ACCESS: Final = "the user of SF_USERNAME lacks a permission: assign the portal's permission set, and share the record"
_FIELD: Final = "deploy the portal's Salesforce package, and give its permission set access to the field"
_AUTOMATION: Final = "a trigger or flow of the org failed: see its debug log, and mend it there"

#: errorCodes about the set-up → how far it reaches, and its cure; for a query None means the whole action.
SETUP_HELP: Final[dict[str, tuple[Setup, str]]] = {
    "API_CURRENTLY_DISABLED": (Setup.SIDE, _API_OFF),
    "API_DISABLED_FOR_ORG": (Setup.SIDE, _API_OFF),
    "CLIENT_NOT_ACCESSIBLE_FOR_USER": (Setup.SIDE, "let the user of SF_USERNAME use the External Client App"),
    "INVALID_LOGIN": (Setup.SIDE, "check SF_USERNAME"),
    "INVALID_OPERATION_WITH_EXPIRED_PASSWORD": (Setup.SIDE, "renew the password of the user of SF_USERNAME"),
    "ORG_LOCKED": (Setup.SIDE, "the org is locked: ask Salesforce"),
    "TRIAL_EXPIRED": (Setup.SIDE, "the org's trial has expired"),
    "UNSUPPORTED_API_VERSION": (Setup.SIDE, _VERSION),
    "FUNCTIONALITY_NOT_ENABLED": (Setup.ACTION, "enable Orders in the org's Order Settings"),
    "INSUFFICIENT_ACCESS": (Setup.ACTION, _ACCESS),
    "INVALID_TYPE": (
        Setup.ACTION,
        "the object is hidden from the user of SF_USERNAME: assign the portal's permission set",
    ),
    "INVALID_FIELD": (Setup.ACTION, _FIELD),
    "INVALID_FIELD_FOR_INSERT_UPDATE": (Setup.RECORDS, _FIELD),
    "INSUFFICIENT_ACCESS_OR_READONLY": (Setup.RECORDS, _ACCESS),
    "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY": (Setup.RECORDS, _ACCESS),
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": (Setup.RECORDS, "add the value to the restricted picklist"),
    "REQUIRED_FIELD_MISSING": (Setup.RECORDS, "the org requires a field the portal doesn't fill: give it a default"),
    "STORAGE_LIMIT_EXCEEDED": (Setup.RECORDS, "the org's storage is full: free some, or buy more"),
    "LIMIT_EXCEEDED": (Setup.RECORDS, _AUTOMATION),
    "CANNOT_EXECUTE_FLOW_TRIGGER": (Setup.RECORDS, _AUTOMATION),
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": (Setup.RECORDS, _AUTOMATION),
    "APEX_ERROR": (Setup.RECORDS, _AUTOMATION),
}
#: Of a write-back: what one that gets through shows to be mended.
MENDABLE_CODES: Final = frozenset({*SETUP_HELP, "ENTITY_IS_LOCKED"})

_NAME: Final = r"[A-Za-z]\w{0,60}"
#: Salesforce's own sentences that are repeated as they are, wherever they stand; what varies are names of fields.
KNOWN: Final = (
    re.compile(rf"No such column '{_NAME}' on (?:entity|sobject of type) '?{_NAME}'?"),
    re.compile(rf"sObject type '{_NAME}' is not supported"),
    re.compile(rf"(?:Didn't|Did not) understand relationship '{_NAME}' in (?:field path|FROM part of query call)"),
    re.compile(rf"Required fields are missing: \[{_NAME}(?:, ?{_NAME}){{0,9}}\]"),
    re.compile(rf"(?i)unable to create/update fields: {_NAME}(?:, ?{_NAME}){{0,9}}"),
    re.compile(r"(?i)bad value for restricted picklist field: [A-Za-z]{3,14}(?: [A-Za-z]{3,14})?$"),
    re.compile(r"(?i)System\.LimitException: (?:Too many [A-Za-z ]{3,30}: \d{1,6}|Apex CPU time limit exceeded)"),
    re.compile(r"user hasn't approved this consumer|audience is invalid|expired authorization code|invalid assertion"),
)

#: What to do about each refusal of a token: (error, part of its description) → the sentence that fixes it.
SIGN_IN_HELP: Final = (
    (
        "invalid_grant",
        "approved this consumer",
        "SF_USERNAME isn't the API user, or that user isn't pre-authorized: in the External Client App's policies "
        "choose “Admin approved users are pre-authorized” and give the user a permission set assigned to the app",
    ),
    (
        "invalid_grant",
        "audience",
        "the audience is wrong: set SF_AUDIENCE to https://test.salesforce.com for a sandbox, to "
        "https://login.salesforce.com otherwise",
    ),
    (
        "invalid_grant",
        "expired",
        "the assertion had expired when it arrived: set this machine's clock right",
    ),
    (
        "invalid_grant",
        "assertion",
        "the assertion wasn't accepted: SF_PRIVATE_KEY_PATH must belong to the certificate uploaded to the External "
        "Client App, and SF_USERNAME must be an active user of this org",
    ),
    ("invalid_grant", "inactive", "the user of SF_USERNAME, or the whole org, is inactive"),
    ("invalid_grant", "", "the sign-in was refused: check SF_USERNAME, SF_CLIENT_ID, SF_AUDIENCE and the certificate"),
    ("invalid_client_id", "", "SF_CLIENT_ID isn't the consumer key of an app of this org"),
    ("invalid_client", "", "SF_CLIENT_ID isn't the consumer key of an app of this org, or its certificate differs"),
    (
        "invalid_app_access",
        "",
        "the app doesn't let this user in: assign the app's permission set to the user of SF_USERNAME",
    ),
    ("inactive_user", "", "the user of SF_USERNAME is inactive"),
    ("inactive_org", "", "the org is inactive"),
    ("unsupported_grant_type", "", "the app doesn't allow the JWT bearer flow: enable it in the app's OAuth settings"),
    ("rate_limit_exceeded", "", "too many sign-ins of this user"),
)


def refusal(content: object, status: int, *, hidden: Sequence[str] = (), effect: bool = False) -> UpstreamError:
    """What Salesforce's error body says: a list of {errorCode or statusCode, message, fields}.

    `content`: the parsed body; `status`: HTTP's; `hidden`: what no message may repeat; `effect`: the call would have
    changed something. Rules: REST API Developer Guide, "Status Codes and Error Responses", "API End-of-Life Policy".
    """
    errors = errors_in(content)
    if status == 410:
        return _about_setup("it has retired the API's version", "UNSUPPORTED_API_VERSION", status, query=not effect)
    if not errors or status >= 500:
        code = _code(errors[0]) if errors else ""
        return not_useful(status, effect=effect, code=code)
    first = errors[0]
    code = _code(first)
    text = "; ".join(str(error.get("message") or "") for error in errors[:3])
    fields = [str(name) for name in first.get("fields") or () if re.fullmatch(_NAME, str(name))]
    said = redact(text, hidden, known=KNOWN, api_names=True)
    said += f" [{', '.join(fields[:3])}]" if fields and not any(name in said for name in fields) else ""
    # A trigger that couldn't lock a row is reported under the trigger's own code.
    transient = code in TRANSIENT_CODES or status in (401, 408, 420, 429) or "UNABLE_TO_LOCK_ROW" in text
    if not transient and (code in SETUP_HELP or not effect and code not in ABOUT_THE_ID):
        return _about_setup(said, code, status, query=not effect)
    return UpstreamError(
        NAME,
        f"Salesforce: {said} ({code or status})",
        permanent=not transient,
        code=code or f"http_{status}",
        status=status,
    )


def _about_setup(said: str, code: str, status: int, *, query: bool) -> UpstreamError:
    """A refusal of what the portal asks for, whichever order it is about; `query`: nothing was to be changed."""
    if code == "NOT_FOUND":  # of a query: not the record, but the address
        setup, cure = Setup.SIDE, _VERSION
    else:
        setup, cure = SETUP_HELP.get(code, (Setup.ACTION, "the portal's question doesn't fit this org: see its log"))
    if setup is not Setup.SIDE:
        setup = Setup.ACTION if query else Setup.RECORDS
    return UpstreamError(
        NAME,
        f"Salesforce's set-up: {said} ({code or status}); {cure}",
        permanent=False,
        setup=setup,
        code=code or f"http_{status}",
        status=status,
    )


def _code(error: Mapping[str, Any]) -> str:
    """Its code, as long as it is one: it is logged, and shown to people."""
    code = str(error.get("errorCode") or error.get("statusCode") or "")
    return code if re.fullmatch(r"[A-Z][A-Z0-9_]{2,79}", code) else ""


def sign_in_refusal(code: str, description: str, status: int, *, hidden: Sequence[str]) -> UpstreamError:
    """A token that was refused: OAuth's `error`, its `error_description`, and what to do about it.

    A setting is wrong, not the order. So it waits, and the log and an event say what to do.
    """
    code = code if re.fullmatch(r"[a-z][a-z_]{2,60}", code) else "unknown_error"
    fits = (words for known, part, words in SIGN_IN_HELP if known == code and part in description.lower())
    sentence = next(fits, "the sign-in was refused")
    said = redact(description, hidden, known=KNOWN, api_names=True)
    passing = code in ("rate_limit_exceeded", "temporarily_unavailable", "server_error")
    return UpstreamError(
        NAME,
        f"Salesforce: {sentence} ({code}: {said})",
        permanent=False,
        setup=None if passing else Setup.SIDE,
        code=code,
        status=status,
    )


def not_useful(status: int, *, effect: bool, code: str = "") -> UpstreamError:
    """An answer that isn't Salesforce's own word: a proxy's page, a 5xx, a redirect. `effect` as for `refusal`."""
    done = effect and not 300 <= status < 400 and status not in (404, 413, 429)
    hint = ": check SF_LOGIN_URL" if 300 <= status < 400 or status == 404 else ""
    return UpstreamError(
        NAME,
        f"Salesforce answered {status} without a usable body{hint}",
        permanent=False,
        unknown=done,
        code=code or f"http_{status}",
        status=status,
    )


def unexpected(what: str, *, effect: bool, code: str = "unexpected_answer") -> UpstreamError:
    """An answer of another shape than documented; `what`: the rest of the sentence that says so."""
    return UpstreamError(NAME, f"Salesforce: {what}", permanent=False, unknown=effect, code=code)


def parsed(parse: Callable[[], T], *, effect: bool = False) -> T:
    """`parse()`; raises UpstreamError (`unexpected_answer`) where it stumbles over an unexpected shape."""
    try:
        return parse()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, InvalidOperation):
        pass
    # Outside of `except`: the other exception may hold what the answer said.
    raise unexpected("its answer has an unexpected shape", effect=effect)


def errors_in(content: object) -> list[Mapping[str, Any]]:
    """The errors in a parsed body: REST's own list, or those of a tree's first failed record."""
    if isinstance(content, dict):
        found = [objects(result, "errors") for result in objects(content, "results") if result.get("errors")]
        return [*found[0]] if found else [content] if content.get("errorCode") else []
    return [entry for entry in content if isinstance(entry, dict)] if isinstance(content, list) else []


def objects(container: object, name: str) -> list[dict[str, Any]]:
    """The objects in the list `container[name]`; none where there is no such list."""
    value = container.get(name) if isinstance(container, dict) else None
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []
