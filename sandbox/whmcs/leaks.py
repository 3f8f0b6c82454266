"""Errors of server modules that carry credentials and customers' data in their words, in the spellings that modules,
command lines and stack traces have for them. Whoever passes such a text on must not pass these on."""

from __future__ import annotations

import base64

#: What a leaking error carries; a test looks for these everywhere.
CANARIES = {
    "username": "canary-whm-root",
    "password": "Canary-Pa55word!",
    "secret": "CANARYTOKEN9F86D081884C7D659A2FEAA0",
    "email": "canary.customer@example.com",
    "card": "4111111111111111",
}
BASIC = base64.b64encode(f"{CANARIES['username']}:{CANARIES['password']}".encode()).decode()

SPELLINGS = (
    "{message} (username={username} password={password})",
    "{message}: GET https://{username}:{password}@saturn.northwind.example:2087/json-api/createacct",
    '{message} {{"user":"{username}","pass":"{password}"}}',
    "{message}; tried: curl -u {username}:{password} https://saturn.northwind.example",
    "{message} [Authorization: Basic {basic}]",
    "{message} Authorization: WHM root:{secret}",
    "{message} PASSWD='{password}'",
    "{message} api_token: {secret}",
    "{message}\nArray\n(\n    [serverusername] => {username}\n    [serverpassword] => {password}\n)",
    "{message} <login>{username}</login><pw>{password}</pw>",
    "{message} ?user={username}&pwd={password}&key={secret}",
    "{message}: Access denied for user '{username}'@'localhost' (using password: {password})",
    "{message} - the password {password} is too weak",
    "{message} for {email} ({card})",
    "{message} token is {secret}.",
)


def spellings(message: str) -> list[str]:
    """The message in every spelling."""
    return [each.format(message=message, basic=BASIC, **CANARIES) for each in SPELLINGS]


def leaking(message: str, number: int) -> str:
    """The message in one of the spellings, in turn."""
    return spellings(message)[number % len(SPELLINGS)]
