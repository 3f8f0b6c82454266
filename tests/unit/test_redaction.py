"""What of other people's words gets out: what operators need, and no credential or customer's datum in any spelling."""

from __future__ import annotations

import base64
import json
import re
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.clients.plain_words import PLAIN_WORDS
from portal.clients.redaction import CUT, MAX_MESSAGE_CHARACTERS, NOT_REPEATED, redact
from portal.clients.salesforce.errors import KNOWN as SALESFORCE
from portal.clients.whmcs.errors import KNOWN as WHMCS


@pytest.mark.parametrize(
    "text",
    [
        "Order ID not found or Status not Pending",
        "Client ID Not Found",
        "Client Not Found",
        "Invalid IP 203.0.113.9",
        "Invalid or missing credentials",
        'Invalid Permissions: API action "addorder" is not allowed',
        'Invalid API Action: "addorderx" is not a valid API action',
        "Invalid Payment Method. Valid options include mailin,paypal",
        "No items added to cart so order cannot proceed",
        "Unable to add order when client status is Closed",
        "Expecting parameter 'pid' to be an array",
        "The Password field is required.",
        "You did not enter your postcode",
        "A user already exists with that email address",
        "Subscription Cancellation Failed - Please check the gateway log for further information",
        "Could not connect to the server",
        "The domain already exists",
        "Disk quota exceeded",
        "Service not assigned to a module",
    ],
)
def test_what_whmcs_is_known_to_say_stays_as_it_is(text: str) -> None:
    assert redact(text, known=WHMCS) == text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "\nSELECT Id, Foo__c FROM Order WHERE Email = 'jane@example.com'\n  ^\nERROR at Row:1:Column:12\n"
            "No such column 'Foo__c' on entity 'Order'. If you are attempting to use a custom field, be sure …",
            "No such column 'Foo__c' on entity 'Order'",
        ),
        ("sObject type 'Order' is not supported.", "sObject type 'Order' is not supported"),
        ("Required fields are missing: [EffectiveDate, Name]", "Required fields are missing: [EffectiveDate, Name]"),
        (
            "Provisioning Status: bad value for restricted picklist field: Activating",
            "bad value for restricted picklist field: Activating",
        ),
        ("storage limit exceeded", "storage limit exceeded"),
        ("Session expired or invalid", "Session expired or invalid"),
        ("insufficient access rights on object id", "insufficient access rights on object id"),
        (
            "OrderTrigger: execution of BeforeUpdate\n\ncaused by: System.LimitException: Too many SOQL queries: 101\n"
            "\nClass.Foo.bar: line 12, column 1",
            "System.LimitException: Too many SOQL queries: 101",
        ),
        (
            "duplicate value found: Portal_Reference__c duplicates value on record with id: 801D000000K0fXO",
            f"duplicate value found: Portal_Reference__c duplicates value on record with id: {CUT}",
        ),
        ("The requested resource does not exist", "The requested resource does not exist"),
        ("UNABLE_TO_LOCK_ROW: unable to obtain lock", "UNABLE_TO_LOCK_ROW: unable to obtain lock"),
    ],
)
def test_salesforces_sentences_and_names_stay(text: str, said: str) -> None:
    assert redact(text, known=SALESFORCE, api_names=True) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Could not resolve host: node7.example.net", f"Could not resolve host: {CUT}"),
        ("Account for Jane Doe already exists", f"Account for {CUT} already exists"),
        ("Account for Jane Page already exists", f"Account for {CUT} already exists"),
        ("A user already exists with jane@example.com.", f"A user already exists with {CUT}"),
        ("The domain jane.example already exists in the account", f"The domain {CUT} already exists in the account"),
        ("call +1 (555) 010-7788 to pay", f"call {CUT} to pay"),
        ("Connection to 203.0.113.9 port 2087 refused", f"Connection to {CUT} port {CUT} refused"),
        ("Error\nCould not connect to the server", "Could not connect to the server"),
        ("SQLSTATE[HY000] [2002] Connection refused", f"{CUT} Connection refused"),
        ("contains S3CRET-canary twice: s3cret-CANARY", f"contains {CUT} twice: {CUT}"),
        ("password:\nto the server", NOT_REPEATED),
        ("", NOT_REPEATED),
        ("<html><body>Fatal</body></html>", NOT_REPEATED),
    ],
)
def test_of_anything_else_the_plain_words(text: str, said: str) -> None:
    assert redact(text, ["s3cret-canary", ""]) == said


# --- credentials, spelt in every way ---------------------------------------------------------------------------

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: Passwords of every kind: random ones, and words of nature and names as people choose them.
CHOSEN = [
    "swordfish",
    "hunter",
    "letmein",
    "Winter",
    "dragon",
    "correcthorse",
    "qwerty",
    "Aurelia",
    "iloveyou",
    "admin",
]
secrets_ = st.one_of(
    st.text(_LETTERS + "0123456789", min_size=6, max_size=24),
    st.text(_LETTERS + "0123456789!#$%&*+-./:?@^_~", min_size=6, max_size=24),
    st.sampled_from(CHOSEN),
).filter(lambda secret: secret.strip(".,;:!?()'").casefold() not in PLAIN_WORDS and not secret.isspace())
before = st.sampled_from(
    ["", "Module Command Error: ", "Could not connect to the server. ", "Login failed with ", "Server said\n", "API: "]
)
labels = st.sampled_from(
    [
        "password",
        "Password",
        "pass",
        "passwd",
        "pwd",
        "db_pass",
        "userPassword",
        "secret",
        "apikey",
        "api_key",
        "token",
        "accessHash",
        "key",
        "auth",
        "x-auth-token",
        "credentials",
        "hasło",
        "Kennwort",
        "pw",
        "PASSPHRASE",
    ]
)


def spellings(label: str, secret: str) -> list[str]:
    encoded = base64.b64encode(f"bob:{secret}".encode()).decode()
    return [
        json.dumps({"result": "error", label: secret, "user": "bob"}),
        json.dumps({label: secret}, indent=2),
        f"Array\n(\n    [user] => bob\n    [{label}] => {secret}\n)\n",
        f'array(2) {{\n  ["{label}"]=>\n  string(9) "{secret}"\n}}',
        f"<error><{label}>{secret}</{label}></error>",
        f"the server refused <user {label}='{secret}'/>",
        f"https://bob:{secret}@node.example/api?{label}={quote(secret)}&x=1 returned an error",
        f"GET /login?user=bob&{label}={quote(secret)} failed",
        f"access denied for bob/{secret}",
        f"access denied for bob:{secret}@node",
        f"tried {secret} and failed",
        f"Authorization: Basic {encoded}",
        f"the header Basic {encoded} was refused",
        f"Authorization: Bearer {secret}",
        f"{label}: {secret}",
        f"{label} is {secret}",
        f"{label} {secret}",
        f"{label}={secret}",
        f"{label}\n{secret}\n",
        f"{label}:\r\n  {secret}\r\nplease try again",
        f"invalid {label} '{secret}' for user bob",
        f'invalid {label} "{secret}',
        f"'{label}' => '{secret}',",
        f"--{label}={secret} --user bob",
        f"-p{secret} -u bob",
        f"{label.upper()}_{secret} was refused",
        f'a:1:{{s:8:"{label}";s:9:"{secret}";}}',
        base64.b64encode(json.dumps({label: secret}).encode()).decode(),
        f"user bob with ({secret}) was refused by the server",
        f"{secret}",
    ]


@settings(max_examples=600)
@given(before, labels, secrets_, st.data())
def test_a_credential_never_comes_out_in_any_spelling(start: str, label: str, secret: str, data: st.DataObject) -> None:
    text = start + data.draw(st.sampled_from(spellings(label, secret)))
    for names in (False, True):
        said = redact(text, known=SALESFORCE if names else WHMCS, api_names=names)
        words = {word.strip(".,;:!?()'").casefold() for word in said.split()}
        assert secret.casefold() not in words, (text, said)
        assert len(secret) < 9 or secret not in said, (text, said)
        encoded = base64.b64encode(f"bob:{secret}".encode()).decode()
        assert encoded not in said
        assert quote(secret) not in words


@given(st.text(max_size=400) | st.lists(st.text(_LETTERS + "=:'\"[]{}<>/@.\n", max_size=12), max_size=30).map(" ".join))
def test_only_plain_words_come_out_of_any_text(text: str) -> None:
    said = redact(text)
    assert said.isprintable()
    assert 0 < len(said) <= MAX_MESSAGE_CHARACTERS
    if said != NOT_REPEATED:
        for word in re.split(r"[\s_-]+|and/or", said):
            core = re.sub(r"n['’]t$|['’](?:s|ll|re)$", "", word.strip(".,;:!?()'’…")).casefold()
            assert core in PLAIN_WORDS or f"{core}n" in PLAIN_WORDS or core.isdigit() or core in ("", "ca"), (
                word,
                said,
            )


@given(st.text(max_size=40), st.text(max_size=40), st.sampled_from(["canary-77ab", "client not", "Saturn"]))
def test_what_is_named_as_secret_never_survives(before: str, after: str, secret: str) -> None:
    assert secret.casefold() not in redact(f"{before} {secret} {after}", [secret]).casefold()
    assert redact("Client Not Found", ["client not"], known=WHMCS) == NOT_REPEATED


def test_no_common_password_is_a_plain_word() -> None:
    common = {"admin", "test", "welcome", "letmein", "monkey", "dragon", "master", "root", "guest", "demo", "changeme"}
    assert not common & PLAIN_WORDS
