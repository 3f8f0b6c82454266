"""What Salesforce's answers mean when they aren't what was asked for: refused for good, passing, or nobody knows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import InvalidOperation
from typing import Any, Final, TypeVar

from portal.domain.model import UpstreamError

T = TypeVar("T")

NAME: Final = "Salesforce"

#: errorCodes that may be different at the next try, though they come with a 4xx.
TRANSIENT_CODES: Final = frozenset(
    {
        "API_CURRENTLY_DISABLED",
        "API_DISABLED_FOR_ORG",
        "ENTITY_IS_LOCKED",
        "INVALID_SESSION_ID",
        "QUERY_TIMEOUT",
        "REQUEST_LIMIT_EXCEEDED",
        "REQUEST_RUNNING_TOO_LONG",
        "SERVER_UNAVAILABLE",
        "UNABLE_TO_LOCK_ROW",
        "UNKNOWN_EXCEPTION",
    }
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


def refusal(content: object, status: int, *, redacted: Callable[[str], str], effect: bool = False) -> UpstreamError:
    """What Salesforce's error body says: a list of {errorCode or statusCode, message, fields}.

    `content`: the parsed body; `status`: HTTP's; `redacted`: makes Salesforce's words fit for a log; `effect`: the call
    would have changed something. Rule: REST API Developer Guide, "Status Codes and Error Responses".
    """
    errors = errors_in(content)
    if not errors or status >= 500:
        code = str(errors[0].get("errorCode") or "") if errors else ""
        return not_useful(status, effect=effect, code=code)
    first = errors[0]
    code = str(first.get("errorCode") or first.get("statusCode") or "")
    text = "; ".join(str(error.get("message") or "") for error in errors[:3])
    # A trigger that couldn't lock a row is reported under the trigger's own code.
    transient = code in TRANSIENT_CODES or status in (401, 408, 420, 429) or "UNABLE_TO_LOCK_ROW" in text
    return UpstreamError(
        NAME,
        f"Salesforce: {redacted(text)} ({code or status})",
        permanent=not transient,
        code=code or f"http_{status}",
        status=status,
    )


def sign_in_refusal(code: str, description: str, status: int, *, redacted: Callable[[str], str]) -> UpstreamError:
    """A token that was refused: OAuth's `error`, its `error_description`, and what to do about it.

    Transient: a setting is wrong, not the order. So it waits, and the log says what to do.
    """
    fits = (words for known, part, words in SIGN_IN_HELP if known == code and part in description.lower())
    sentence = next(fits, "the sign-in was refused")
    return UpstreamError(
        NAME,
        f"Salesforce: {sentence} ({code}: {redacted(description)})",
        permanent=False,
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
