"""What WHMCS' answers mean when they aren't what was asked for: refused for good, the set-up's, passing, or unknown.

WHMCS has no error codes, only words: its own, and those of server modules, hooks and PHP itself. So each action knows
the few texts by which it refuses for good (WHMCS API reference, "Error Responses" of each); whatever else is said where
nothing was changed is passing trouble, for it may be about the whole WHMCS or about the moment.

An answer `result=error` ends the call: PHP is done, and nothing takes effect afterwards. So it never leaves a call
`unknown`. What the call did before that isn't certain where the words aren't known; that is why AddOrder and
AcceptOrder are preceded by a look at what is there, each time (portal.domain.protocol).

- AddOrder refuses by its documented texts before it makes anything: final. Words that aren't known may be a hook's or
  an exception's, after the order's row: tried again a few times, each after a look, and then Failed under AddOrder's
  code with these words. Words about the moment (the database's, say) are tried again by the whole schedule.
- AcceptOrder, ModuleCreate and AddClient pass on what server modules and validation say, in anybody's words: final, for
  trying again by machine mends neither a module nor an address, but for words that are plainly about the moment.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, Final

from portal.clients.redaction import redact
from portal.clients.whmcs.records import text
from portal.domain.model import NO_CLIENT, UNKNOWN_WORDS, Setup, UpstreamError

NAME: Final = "WHMCS"

#: Codes of refusals that callers tell apart; every other final one is `refused`.
NO_INVOICE: Final = "invoice_not_found"
NO_ORDER: Final = "order_not_found"
NO_PRODUCT: Final = "product_not_found"
NO_DESTINATION: Final = "invalid_destination"
OF_THE_MOMENT: Final = "trouble_of_the_moment"
REFUSED: Final = "refused"

#: Codes of what WHMCS says of a record that isn't there, in words known or not: it let the call in.
ABOUT_THE_RECORD: Final = frozenset(
    {NO_CLIENT, NO_INVOICE, NO_ORDER, NO_PRODUCT, NO_DESTINATION, REFUSED, UNKNOWN_WORDS}
)


def _texts(*patterns: str) -> re.Pattern[str]:
    return re.compile(rf"(?:{'|'.join(patterns)})\.?", re.IGNORECASE)


_CLIENT_NOT_FOUND: Final = (_texts(r"client (?:id )?not found"), NO_CLIENT)
_NOT_PENDING: Final = _texts("order id not found or status not pending")

#: By action: the whole text of a refusal for good, and its code.
FINAL: Final[dict[str, tuple[tuple[re.Pattern[str], str], ...]]] = {
    "GetClientsDetails": (_CLIENT_NOT_FOUND,),
    "GetPayMethods": (_CLIENT_NOT_FOUND,),
    "GetClientsProducts": (_CLIENT_NOT_FOUND,),
    "GetOrders": (_CLIENT_NOT_FOUND, (_texts("order id not found"), NO_ORDER)),
    "GetInvoice": ((_texts(r"invoice (?:id )?not found"), NO_INVOICE),),
    "GetProducts": ((_texts(r"product (?:id )?not found"), NO_PRODUCT),),
    "CreateSsoToken": (
        (_texts("invalid destination"), NO_DESTINATION),
        (_texts("invalid client_id", "a valid client_id or user_id is required"), NO_CLIENT),
        (_texts(r"sso authentication blocked for client \d+"), REFUSED),
    ),
    "AddOrder": (
        (
            _texts(
                "client id not found",
                "unable to add order when client status is closed",
                r"invalid payment method\. valid options include[\w ,]*",
                "no items added to cart so order cannot proceed",
                "addon id invalid",
                r"(?:product|service) id (?:\d+ )?(?:not found|invalid|not owned by client id provided)",
                "invalid billing cycle",
                r"expecting parameter '\w{1,40}' to be an array",
            ),
            REFUSED,
        ),
    ),
    "CancelOrder": (
        (_NOT_PENDING, REFUSED),
        (
            _texts("subscription cancellation failed - please check the gateway log for further information"),
            REFUSED,
        ),
    ),
}
#: Actions whose refusals are others' words: each one is final, unless it is about the moment.
OTHERS_WORDS: Final = frozenset({"AcceptOrder", "ModuleCreate", "AddClient"})
#: Words about the moment and about WHMCS itself. A module's trouble with its own server isn't: a person looks at that.
_MOMENT: Final = re.compile(
    r"down for maintenance|sqlstate|deadlock|lock wait timeout|has gone away|too many (?:connections|requests)"
    r"|rate limit|maximum execution time|allowed memory size|database (?:error|connection)",
    re.IGNORECASE,
)

#: Sentences that are repeated as they are.
KNOWN: Final = (
    *(re.compile(rf"^(?:{pattern.pattern})$", re.IGNORECASE) for texts in FINAL.values() for pattern, _ in texts),
    re.compile(rf"^(?:{_NOT_PENDING.pattern})$", re.IGNORECASE),
    re.compile(r"^invalid ip [0-9a-f.:]{3,45}$", re.IGNORECASE),
    re.compile(r"^invalid permissions: api action [\"']?\w{1,40}[\"']? is not allowed\.?$", re.IGNORECASE),
    re.compile(r"^invalid api action: [\"']?\w{1,40}[\"']? is not a valid api action\.?$", re.IGNORECASE),
    re.compile(r"^(?:authentication failed|invalid or missing credentials|access denied)\.?$", re.IGNORECASE),
    re.compile(r"^you did not enter your [a-z ]{2,40}\d?$", re.IGNORECASE),
    re.compile(r"^the (?:password|[a-z]{2,20}(?: [a-z]{2,20}){0,2}) field is required\.?$", re.IGNORECASE),
)

#: What WHMCS says when it doesn't let the portal in (with 403) → its code, how far it reaches, what to do about it;
#: `{}` is its own text.
_ACCESS: Final = (
    (
        re.compile(r"invalid ip\b", re.IGNORECASE),
        Setup.SIDE,
        "{}: in WHMCS add the portal's address under General Settings > Security > API IP Access Restriction, or set "
        "WHMCS_API_ACCESS_KEY",
    ),
    (
        re.compile(r"invalid permissions\b", re.IGNORECASE),
        Setup.ACTION,
        "{}: allow the action in the API role of the portal's credentials (Manage API Credentials > API Roles)",
    ),
    (
        re.compile(r"invalid api action\b", re.IGNORECASE),
        Setup.ACTION,
        "{}: this WHMCS is older than the portal needs",
    ),
    (
        re.compile(r"", re.IGNORECASE),
        Setup.SIDE,
        "{}: check WHMCS_API_IDENTIFIER and WHMCS_API_SECRET against WHMCS' Manage API Credentials",
    ),
)
#: The same with 200, as some installs answer. Anything less exact could be a server module's own words.
_ACCESS_REFUSED: Final = re.compile(
    r"invalid ip [0-9a-f.:]+$|invalid permissions: api action |invalid or missing credentials\.?$"
    r"|invalid api action: [\"']?\w{1,40}[\"']? is not a valid api action",
    re.IGNORECASE,
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
        raise refusal(action, status, text(answer.get("message")), hidden)
    # A maintenance page, a firewall's, a crash, a bare warning: nothing says whether PHP went on in the background.
    not_done = 300 <= status < 400 or status in (404, 405, 413, 429)
    hint = ": check WHMCS_API_URL" if 300 <= status < 400 or status in (404, 405) else ""
    lacking = "no usable JSON" if answer is None else "nothing that says whether it was done"
    raise UpstreamError(
        NAME,
        f"WHMCS answered {action} with {status} and {lacking}{hint}",
        permanent=False,
        unknown=effect and not not_done,
        code=f"http_{status}" if not 200 <= status < 300 else "not_json" if answer is None else "no_result",
        status=status,
    )


def refusal(action: str, status: int, words: str, hidden: Sequence[str] = ()) -> UpstreamError:
    """What `result=error` says; see the module. `words`: its message as it came, `hidden`: as for `read_answer`."""
    said = " ".join(words.split())
    message = redact(words, hidden, known=KNOWN) if said else "it gave no reason"
    if status == 429:
        return UpstreamError(NAME, f"WHMCS: {message}", permanent=False, code="http_429", status=status)
    if status in (401, 403) or _ACCESS_REFUSED.match(said):
        # A setting is wrong, not the order: it waits, and operators are told what to do.
        setup, sentence = next((scope, cure) for pattern, scope, cure in _ACCESS if pattern.match(said))
        return UpstreamError(
            NAME,
            f"WHMCS refused {action}: {sentence.format(message)}",
            permanent=False,
            setup=setup,
            code="auth",
            status=status,
        )
    code = next((code for pattern, code in FINAL.get(action, ()) if pattern.fullmatch(said)), "")
    passing = OF_THE_MOMENT if not said or _MOMENT.search(said) else UNKNOWN_WORDS
    if not code and action in OTHERS_WORDS and passing is UNKNOWN_WORDS:
        code = REFUSED
    return UpstreamError(
        NAME,
        f"WHMCS: {message}" if code else f"WHMCS couldn't do {action} now: {message}",
        permanent=bool(code),
        code=code or passing,
        status=status,
    )


def unexpected(what: str, *, effect: bool = False) -> UpstreamError:
    """An answer of another shape than documented; `what`: the rest of the sentence that says so."""
    return UpstreamError(NAME, f"WHMCS: {what}", permanent=False, unknown=effect, code="unexpected_answer")
