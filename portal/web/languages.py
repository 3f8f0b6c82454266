"""Which language a customer is spoken to in: chosen by them, else their browser's; and how a text is said in it.

Pages and mails alike: whoever writes a text imports `gettext` and `ngettext` from here, templates have `_` and
`{% trans %}`. The catalogues are portal/translations/; docs/translating.md is their guide.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Final

from babel import Locale
from babel.localedata import locale_identifiers
from babel.support import NullTranslations, Translations
from flask import Flask, Response, g, has_app_context, request
from flask_babel import Babel, Domain, refresh

ENGLISH: Final = "en"
#: Every language the portal speaks, each by its own name.
LANGUAGES: Final = {
    ENGLISH: "English",
    "de": "Deutsch",
    "fr": "Français",
    "es": "Español",
    "ja": "日本語",
    "ar": "العربية",
}
DIRECTORY: Final = Path(__file__).resolve().parents[1] / "translations"
COOKIE: Final = "portal_language"
COOKIE_SECONDS: Final = 365 * 24 * 3600
#: So many languages of an Accept-Language header are looked at.
_MOST_ASKED: Final = 20

#: What is spoken outside of a request: a mail that a worker sends.
_spoken: ContextVar[str | None] = ContextVar("spoken", default=None)


@cache
def translations(language: str) -> NullTranslations:
    """The catalogue of one of LANGUAGES; English is the texts themselves."""
    return Translations.load(str(DIRECTORY), [language])


def current() -> str:
    """The locale to speak in now, such as "de" or "en_US": of `speaking`, of the request, else English."""
    forced = _spoken.get()
    if forced is not None:
        return forced
    if not has_app_context():
        return ENGLISH
    locale: str | None = g.get("locale")  # kept: every text that is said asks for it
    if locale is None:
        locale = g.locale = _of_request()
    return locale


def language_of(locale: str) -> str:
    """The language of a locale: "en" of "en_US"."""
    return locale.partition("_")[0]


@contextmanager
def speaking(locale: str) -> Iterator[None]:
    """Everything said inside is said in `locale`, in a request or outside of one."""
    before = _spoken.set(known(locale) or ENGLISH)
    try:
        yield
    finally:
        _spoken.reset(before)


class _Words(Domain):  # type: ignore[misc]  # Flask-Babel has no types
    """Flask-Babel's texts, found by language alone (regions share them), and outside of a request, too."""

    def get_translations(self) -> NullTranslations:
        return translations(language_of(current()))


_WORDS: Final = _Words()


def gettext(text: str, **values: Any) -> str:
    """`text` in the current language, its `%(name)s` filled in."""
    return str(_WORDS.gettext(text, **values))


def ngettext(one: str, many: str, num: int, **values: Any) -> str:
    """`one` or `many`, or whatever forms the current language has for `num` things; `%(num)s` is the number."""
    return str(_WORDS.ngettext(one, many, num, **values))


def register(app: Flask) -> None:
    """Put languages into an application: its templates' texts, its requests' locale, and what caches must know."""
    Babel(app, locale_selector=current).domain_instance = _WORDS
    app.jinja_env.policies["ext.i18n.trimmed"] = True
    app.after_request(_say_so)


def _of_request() -> str:
    """The account's choice, else this browser's, else the first language it asks for that there is."""
    if _operators():
        return ENGLISH
    chosen = known(g.get("account_language")) or known(request.cookies.get(COOKIE))
    return regional(chosen) if chosen else asked_for()


def _operators() -> bool:
    """Whether the page is the operators': theirs are English."""
    return (request.blueprint or "").startswith(("ops", "rq"))


def known(locale: str | None) -> str | None:
    """`locale` if it is one of ours, such as "fr" or "fr_CA"; None for all others."""
    return locale if locale in LANGUAGES or locale in _regional() else None


def regional(locale: str) -> str:
    """`locale` as it is written where this browser comes from: "en" becomes "en_US" for one that asks for en-US."""
    if "_" in locale:
        return locale
    for asked in _asked():
        if language_of(asked) == locale:
            return asked
    return locale


def asked_for() -> str:
    """The first language of this browser's Accept-Language that is ours, with its region; else English."""
    return next(iter(_asked()), ENGLISH)


def _asked() -> list[str]:
    found = []
    for tag, quality in list(request.accept_languages)[:_MOST_ASKED]:
        tag = tag.lower()
        locale = _regions().get(tag) or tag.partition("-")[0]
        if quality > 0 and (locale in LANGUAGES or tag in _regions()):
            found.append(locale)
    return found


@cache
def _regions() -> dict[str, str]:
    """Every region the CLDR knows of our languages: {"en-us": "en_US", …}."""
    return {
        each.replace("_", "-").lower(): each
        for each in locale_identifiers()
        if each.count("_") == 1 and language_of(each) in LANGUAGES
    }


@cache
def _regional() -> frozenset[str]:
    return frozenset(_regions().values())


def heard(language: str | None) -> None:
    """The account's choice has become known in this request: what is said from now on is said in it."""
    if language is not None:
        g.account_language = language
        g.pop("locale", None)
        refresh()


def direction() -> str:
    """ "rtl" or "ltr": which way the current language is written."""
    return str(Locale.parse(language_of(current())).text_direction)


def tag(locale: str) -> str:
    """A locale as browsers name it (BCP 47), for dates in the reader's own zone: digits as on the rest of the page."""
    return "en-GB" if locale == ENGLISH else f"{locale.replace('_', '-')}-u-nu-latn"


def keep(response: Response, locale: str, *, path: str, secure: bool) -> None:
    """Let this browser remember its language for COOKIE_SECONDS."""
    response.set_cookie(
        COOKIE, language_of(locale), max_age=COOKIE_SECONDS, path=path, secure=secure, httponly=True, samesite="Lax"
    )


def _say_so(response: Response) -> Response:
    """A page of ours says its language, and that another browser may get another one."""
    if response.mimetype == "text/html" and not _operators():
        response.headers.setdefault("Content-Language", language_of(current()))
        response.vary.update(("Cookie", "Accept-Language"))
    return response
