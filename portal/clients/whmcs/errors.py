"""What WHMCS' answers mean when they aren't what was asked for: refused for good, passing, or nobody knows."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from portal.clients.redaction import redact
from portal.clients.whmcs.records import text
from portal.domain.model import UpstreamError

NAME: Final = "WHMCS"

#: What WHMCS says when it doesn't let the portal in (with 403) → what to do about it; `{}` is its own text.
ACCESS_HELP: Final = (
    (
        re.compile(r"invalid ip\b", re.IGNORECASE),
        "{}: in WHMCS add the portal's address under General Settings > Security > API IP Access Restriction, or set "
        "WHMCS_API_ACCESS_KEY",
    ),
    (
        re.compile(r"invalid permissions\b", re.IGNORECASE),
        "{}: allow the action in the API role of the portal's credentials (Manage API Credentials > API Roles)",
    ),
    (
        re.compile(r"", re.IGNORECASE),
        "{}: check WHMCS_API_IDENTIFIER and WHMCS_API_SECRET against WHMCS' Manage API Credentials",
    ),
)
#: The same with 200, as some installs answer. Anything less exact could be a server module's own words.
ACCESS_REFUSED: Final = re.compile(
    r"invalid ip [0-9a-f.:]+$|invalid permissions: api action |invalid or missing credentials$", re.IGNORECASE
)


def read_answer(action: str, status: int, content: bytes, *, effect: bool, hidden: Sequence[str]) -> dict[str, Any]:
    """The answer's JSON object, as long as its `result` is success. Raises UpstreamError for everything else.

    `status`: HTTP's; `content`: the body; `effect`: the call would have changed something, so an answer that isn't
    WHMCS' own leaves it unknown; `hidden`: what no error message may repeat. Rule: WHMCS API, "Response Types".
    """
    try:
        answer = json.loads(content.decode("utf-8-sig", "replace"), strict=False)
    except (ValueError, RecursionError):
        answer = None
    result = text(answer.get("result")).lower() if isinstance(answer, dict) else ""
    if result == "success" and 200 <= status < 300 and isinstance(answer, dict):
        return answer
    if result == "error" and status < 500 and isinstance(answer, dict):
        message = redact(text(answer.get("message")) or "it gave no reason", hidden)
        raise _refusal(action, status, message)
    # A maintenance page, a firewall's, a crash: nothing says whether PHP went on in the background.
    not_done = 300 <= status < 400 or status in (404, 405, 413, 429)
    hint = ": check WHMCS_API_URL" if 300 <= status < 400 or status in (404, 405) else ""
    raise UpstreamError(
        NAME,
        f"WHMCS answered {action} with {status} and no usable JSON{hint}",
        permanent=False,
        unknown=effect and not not_done,
        code=f"http_{status}" if not 200 <= status < 300 else "not_json",
        status=status,
    )


def _refusal(action: str, status: int, message: str) -> UpstreamError:
    if status == 429:
        return UpstreamError(NAME, f"WHMCS: {message}", permanent=False, code="http_429", status=status)
    if status in (401, 403) or ACCESS_REFUSED.match(message):
        # A setting is wrong, not the order: it waits, and the log says what to do.
        sentence = next(words for pattern, words in ACCESS_HELP if pattern.match(message)).format(message)
        return UpstreamError(NAME, f"WHMCS refused {action}: {sentence}", permanent=False, code="auth", status=status)
    return UpstreamError(NAME, f"WHMCS: {message}", permanent=True, code="refused", status=status)


def unexpected(what: str, *, effect: bool = False) -> UpstreamError:
    """An answer of another shape than documented; `what`: the rest of the sentence that says so."""
    return UpstreamError(NAME, f"WHMCS: {what}", permanent=False, unknown=effect, code="unexpected_answer")
