"""Decides what of the other side's own words leaves the client at all, and so reaches logs, tables and people.

A server module's error may hold anything: the account's password, the request it made, a customer's address. Nobody
can list all the ways of writing these down. So known sentences pass as they are; of everything else the first sentence
does, without each word that isn't plain (portal.clients.plain_words). The whole is kept nowhere: WHMCS' own module log
has it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final

from portal.clients.plain_words import PLAIN_WORDS

MAX_MESSAGE_CHARACTERS: Final = 240
CUT: Final = "…"
NOT_REPEATED: Final = "a reason that isn't repeated here, since it may hold secrets"

#: What begins a structure (JSON, XML, print_r, a form, an assignment): nothing from here on is a sentence.
_STRUCTURE = re.compile(r"[\[\]{}<>=|\\`]")
_QUOTED = re.compile(r"\"[^\"]*(?:\"|$)|“[^”]*(?:”|$)|(?<!\w)'[^']*(?:'|$)", re.DOTALL)
_BRACKETED_CODE = re.compile(r"\[[A-Z0-9]{1,6}\]")  # SQLSTATE[HY000] [2002] …
_SENTENCE_END = re.compile(r"(?<=[.!?;])\s+|[\r\n]+")
#: Words after which a secret may be expected, spelt any way: nothing that follows one is repeated.
_KEY_LIKE = re.compile(
    r"pass(?!ed$|ing$|es$)|pwd|secret|token|key|cred|bearer|^basic$|hash|^pin$|cvv|cvc|otp$|^auth$|cookie|^pw$|assertion"
)
_TRIMMED = ".,;:!?()'’"
#: An object's or field's API name, as Salesforce writes its own and an org's custom ones.
_API_NAME = re.compile(r"(?:[A-Za-z][A-Za-z0-9]{0,39}\.)?[A-Za-z][A-Za-z0-9]*(?:_[A-Za-z0-9]+){0,8}__[cr]")
_CONSTANT = re.compile(r"[A-Z]{2,}(?:_[A-Z]+)+")  # UNABLE_TO_LOCK_ROW
_NUMBERED = {
    **dict.fromkeys(("error", "err", "code", "status", "http", "line", "row", "column"), 3),
    **dict.fromkeys(("order", "product", "service", "invoice", "client", "item", "package", "id"), 6),
}


def redact(
    text: str, secrets: Iterable[str] = (), *, known: Sequence[re.Pattern[str]] = (), api_names: bool = False
) -> str:
    """The other side's own words, fit for a log and for people: one line, bounded, without secrets or personal data.

    known: sentences that pass as they are where they are found; what varies in one must be shaped narrowly.
    secrets: what may never be repeated, whatever is known. api_names: names of Salesforce's fields pass, too.
    """
    hidden = [secret.casefold() for secret in secrets if len(secret) > 2]
    line = " ".join(text.split())
    for pattern in known:
        found = pattern.search(line)
        if found is not None and not _holds(found[0], hidden) and len(found[0]) <= MAX_MESSAGE_CHARACTERS:
            return found[0]
    text = _BRACKETED_CODE.sub(" ", text[:4000])
    text = _QUOTED.sub(lambda match: f" {_name_in(match[0])} " if api_names else f" {CUT} ", text)
    structure = _STRUCTURE.search(text)
    told = text if structure is None else f"{text[: structure.start()]} {CUT}"
    for sentence in _SENTENCE_END.split(told):
        words, plain, keyed = _plain(sentence.split(), hidden, api_names=api_names)
        if plain > 1 or (plain == 1 and len(told.split()) == 1):
            said = _joined(words)
            return said if not _holds(said, hidden) else NOT_REPEATED
        if keyed:
            break  # what follows may be the secret, in a sentence of its own or not
    return NOT_REPEATED


def _plain(tokens: Sequence[str], hidden: Sequence[str], *, api_names: bool) -> tuple[list[str], int, bool]:
    """The words, those that aren't plain as CUT; how many are plain; whether what follows had to be left out."""
    words: list[str] = []
    keyed = False
    before = ""
    for number, token in enumerate(tokens):
        core = token.strip(_TRIMMED)
        good = _is_plain(core, before, api_names=api_names) and not _holds(core, hidden)
        words.append(token if good else CUT)
        if not (api_names and _API_NAME.fullmatch(core)):
            # A label that is no word of ours may be one for a secret, too.
            keyed = bool(_KEY_LIKE.search(core.casefold())) or (token.endswith(":") and not good)
        if keyed:
            words += [CUT] * (number < len(tokens) - 1)
            break
        before = core.casefold()
    for number in range(1, len(words)):  # a name may be made of plain words: Mr Young, Ms Page
        one, other = number - 1, number
        if _capitalised(tokens[one]) and _capitalised(tokens[other]) and CUT in (words[one], words[other]):
            words[other] = CUT
            words[one] = CUT if one else words[one]
    plain = sum(word != CUT and not word.strip(_TRIMMED).isdigit() for word in words)
    return words, plain, keyed


def _capitalised(token: str) -> bool:
    core = token.strip(_TRIMMED)
    return core[:1].isupper() and core[1:].islower()


def _is_plain(core: str, before: str, *, api_names: bool) -> bool:
    if core.isascii() and core.isdigit():
        return len(core) <= _NUMBERED.get(before, 0)
    if api_names and (_API_NAME.fullmatch(core) and len(core) <= 60):
        return True
    if _CONSTANT.fullmatch(core):
        return all(_is_word(part) for part in core.split("_"))
    return bool(core) and all(_is_word(part) for part in core.replace("and/or", "or").split("-"))


def _is_word(text: str) -> bool:
    word = text.casefold().replace("’", "'")
    for ending in ("n't", "'s", "'ll", "'re"):
        if word.endswith(ending) and word.removesuffix(ending):
            word = word.removesuffix(ending) + ("n" if ending == "n't" else "")
            break
    return word in PLAIN_WORDS or word == "can"


def _name_in(quoted: str) -> str:
    """A quoted name of an object or field stays, every other quoted text goes."""
    content = quoted.strip("\"'“”")
    return f"'{content}'" if _API_NAME.fullmatch(content) or content.casefold() in PLAIN_WORDS else CUT


def _joined(words: Sequence[str]) -> str:
    line = " ".join(words)
    line = re.sub(rf"{CUT}(?:\s*{CUT})+", CUT, line)
    line = "".join(c if c.isprintable() else " " for c in line)
    return line if len(line) <= MAX_MESSAGE_CHARACTERS else line[: MAX_MESSAGE_CHARACTERS - 1] + CUT


def _holds(text: str, hidden: Sequence[str]) -> bool:
    folded = text.casefold()
    return any(secret in folded for secret in hidden)
