"""The language: the browser's until a customer chooses, then the account's, on pages and in the mails of workers."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from portal.ledger import languages as kept
from portal.ledger.schema import account_languages
from portal.mail.composer import Composer
from portal.services import Services
from portal.web import languages
from sandbox.visitor import Visitor
from tests.customers import email_of, last_mail, mails_to, place_order, sign_in
from tests.customers_in_process import base_url, browser, call, new_order, signed_in
from tests.stack import Stack


def services_of(app: Flask) -> Services:
    found: Services = app.extensions["portal"].services
    return found


@pytest.fixture(autouse=True)
def nothing_chosen(app: Flask, stack: Stack) -> Iterator[None]:
    """Other tests read this account's mails, too."""
    yield
    with services_of(app).ledger.write() as connection:
        connection.execute(
            account_languages.delete().where(account_languages.c.account_id == stack.ids["account:alan"])
        )


def language_of(client: FlaskClient, path: str, accept: str = "") -> str:
    """What a page says its language is."""
    page = call(client, "GET", path, **({"Accept-Language": accept} if accept else {}))
    found = re.search(r'<html lang="([a-z]+)" dir="(ltr|rtl)" data-locale="([^"]+)">', page.text)
    assert found, page.text
    assert page.headers["Content-Language"] == found[1]
    assert {"Cookie", "Accept-Language"} <= {each.strip() for each in page.headers["Vary"].split(",")}
    assert (found[2] == "rtl") is (found[1] == "ar")
    return found[1]


def choose(client: FlaskClient, language: str, back_to: str = "/") -> str:
    """Press the button of that language; returns where it leads."""
    page = call(client, "GET", "/")
    token = re.search(r'name="csrf_token" value="([^"]+)"', page.text)
    assert token
    answer = client.post(
        "/language",
        base_url=base_url(client.application),
        data={"csrf_token": token[1], "language": language, "next": back_to},
    )
    assert answer.status_code == 303, answer.text
    return str(answer.headers["Location"])


@pytest.mark.parametrize(
    ("accept", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("de-AT,de;q=0.9,en;q=0.8", "de"),
        ("pt-BR,pt;q=0.9,fr;q=0.5", "fr"),
        ("fr;q=0.2, ja;q=0.9", "ja"),
        ("fr;q=0, es;q=0.1", "es"),
        ("xx, yy;q=0.3", "en"),
        ("*", "en"),
        ("ar-EG", "ar"),
        (",".join(["xx"] * 1000), "en"),
        ("de\x7f-../../etc", "en"),
    ],
)
def test_a_new_browser_is_spoken_to_in_its_own_language(app: Flask, accept: str, language: str) -> None:
    assert language_of(browser(app), "/", accept) == language
    assert language_of(browser(app), "/nothing/here", accept) == language


def test_the_choice_is_kept_in_the_browser_and_leads_back(app: Flask) -> None:
    client = browser(app)
    assert choose(client, "fr", "/basket?x=1") == "/basket?x=1"
    assert language_of(client, "/basket", "de") == "fr"
    assert language_of(client, "/nothing/here", "de") == "fr"


@pytest.mark.parametrize(
    "elsewhere",
    ["", "https://evil.example/", "//evil.example", "/\\evil.example", "/basket/add", "/nothing", "/\r\nX: y", "/ä"],
)
def test_the_choice_leads_nowhere_else(app: Flask, elsewhere: str) -> None:
    assert choose(browser(app), "de", elsewhere) == "/"


def test_a_language_that_there_is_not_is_refused(app: Flask) -> None:
    client = browser(app)
    token = re.search(r'name="csrf_token" value="([^"]+)"', call(client, "GET", "/").text)
    assert token
    for language in ("", "tlh", "en_US", "../de"):
        answer = client.post(
            "/language", base_url=base_url(app), data={"csrf_token": token[1], "language": language, "next": "/"}
        )
        assert answer.status_code == 400


def test_the_account_keeps_it_for_all_its_browsers(app: Flask, stack: Stack) -> None:
    one, other = signed_in(app, stack, "alan"), signed_in(app, stack, "alan")
    assert language_of(other, "/orders", "ja") == "ja"
    choose(one, "de")
    assert language_of(other, "/orders", "ja") == "de"
    assert language_of(other, "/", "ja") == "de", "a page that reads no ledger has it from the browser"
    choose(other, "en")
    assert language_of(one, "/orders") == "en"


def test_the_poll_of_another_language_is_another_answer(app: Flask, stack: Stack) -> None:
    case = new_order(app, stack, customer="alan")
    client = signed_in(app, stack, "alan")
    choose(client, "en")
    page = call(client, "GET", f"/orders/{case.reference}").text
    version = re.search(r"status\?v=([0-9a-f]+)", page)
    assert version
    same = f"/orders/{case.reference}/status?v={version[1]}"
    assert call(client, "GET", same).status_code == 204
    choose(client, "de")
    told = call(client, "GET", same)
    assert told.status_code == 200
    assert told.headers["Content-Language"] == "de"
    assert {"Cookie", "Accept-Language"} <= {each.strip() for each in told.headers["Vary"].split(",")}


def test_the_api_keeps_its_words(app: Flask, stack: Stack) -> None:
    case = new_order(app, stack, customer="alan")
    client = signed_in(app, stack, "alan")
    choose(client, "ar")
    document = call(client, "GET", f"/api/orders/{case.sf_order_id}").json
    assert document is not None
    assert document["status"] == "Pending Review"
    assert document["message"] == "We’re checking your order"


def test_a_region_says_how_times_are_written(app: Flask, stack: Stack) -> None:
    case = new_order(app, stack)
    client = browser(app)
    client = signed_in(app, stack, "ada")
    path = f"/orders/{case.reference}"
    american = call(client, "GET", path, **{"Accept-Language": "en-US"}).text
    british = call(client, "GET", path, **{"Accept-Language": "en-GB"}).text
    assert re.search(r"\d\u202f[AP]M UTC", american)
    assert not re.search(r"\d\u202f?[AP]M", british)
    assert 'data-locale="en-US-u-nu-latn"' in american


def test_a_mail_of_an_order_is_in_the_language_it_was_placed_in_until_one_is_chosen(app: Flask, stack: Stack) -> None:
    services = services_of(app)
    account = "001000000000009AAA"  # nobody's: mails of others' tests are English
    with services.ledger.write() as connection:
        kept.note(connection, account, "fr", now=1.0)
        assert kept.of_account(connection, account) == ("fr", False)
        kept.choose(connection, account, "de", now=2.0)
        kept.note(connection, account, "es", now=3.0)
        assert kept.of_account(connection, account) == ("de", True)


def test_the_workers_write_in_the_accounts_language(app: Flask, stack: Stack) -> None:
    services = services_of(app)
    account = stack.ids["account:alan"]
    with Visitor() as alan:
        with services.ledger.write() as connection:
            kept.choose(connection, account, "en", now=services.now())
        sign_in(stack, alan, "alan")
        with services.ledger.write() as connection:
            kept.choose(connection, account, "de", now=services.now())
        since = last_mail(stack)
        reference = place_order(stack, alan, "support")
        with languages.speaking("de"):
            subject = languages.gettext("We have your order %(reference)s", reference=reference)
        assert subject != f"We have your order {reference}"
        mails = mails_to(stack, email_of("alan"), subject=reference, wait=30, since=since)
        assert [each["subject"] for each in mails] == [subject]


@pytest.mark.parametrize("language", languages.LANGUAGES)
def test_a_mail_says_its_language(app: Flask, language: str) -> None:
    payload = {
        "to": "ada@lovelace.example",
        "template": "sign_in",
        "context": {"links": [{"account": "A", "url": "https://orders.example/x"}]},
        "message_id": "m",
    }
    message = Composer(services_of(app).settings).compose(payload, now=1.0, language=language)
    html = message.get_body(("html",))
    assert html is not None
    assert f'<html lang="{language}" dir="{"rtl" if language == "ar" else "ltr"}">' in html.get_content()
    assert message["Content-Language"] == language


def test_an_unknown_language_is_english() -> None:
    with languages.speaking("tlh"):
        assert languages.current() == "en"
