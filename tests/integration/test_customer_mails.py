"""E-mails: what is in them, that they go once, and what happens when the mail server doesn't behave."""

from __future__ import annotations

import html
import re
import secrets
from dataclasses import replace
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from portal.clients.smtp import SmtpTransport
from portal.domain.model import CustomerStatus, ErrorCode, UpstreamError
from portal.ledger import orders
from portal.mail.composer import TEMPLATES, Composer
from portal.mail.mailer import Mailer
from portal.services import Services
from portal.settings import Settings
from portal.web.signing import Links
from tests.customers import SITUATIONS, last_mail, link_in, mails_to, make_order
from tests.stack import Stack

ORDER_MAILS = (
    "received",
    "provisioned",
    "needs_you",
    "order_link",
    "withdrawn",
    "rejected",
    "cancelled",
    "withdrawal_received",
)


def services_of(app: Flask) -> Services:
    found: Services = app.extensions["portal"].services
    return found


def payload(template: str, to: str = "ada@mails.example", **items: Any) -> dict[str, Any]:
    item = {
        "name": "Starter Hosting",
        "quantity": 2,
        "unitPrice": "5.00",
        "cycle": "Monthly",
        "domain": "a.example",
        "hostname": None,
        **items,
    }
    return {
        "to": to,
        "template": template,
        "account_id": "001A",
        "message_id": f"po-test.{secrets.token_hex(4)}",
        "context": {
            "reference": "PO-AAAA-BBBB",
            "items": [item],
            "currency": "USD",
            "total": "10.00",
            "withdrawn_at": 1e9,
        },
    }


def test_every_template_is_tried_here() -> None:
    known = {path.stem for path in TEMPLATES.iterdir() if not path.name.startswith("_")}
    assert known == {*ORDER_MAILS, "sign_in", "operator_sign_in", "withdrawal_asked"}
    for name in known:
        assert {(TEMPLATES / f"{name}{suffix}").exists() for suffix in (".txt", ".html")} == {True}


@pytest.mark.parametrize("template", ORDER_MAILS)
def test_a_mail_about_an_order_says_it_twice_and_links_to_it(app: Flask, template: str) -> None:
    services = services_of(app)
    message = Composer(services.settings).compose(payload(template), now=services.now())
    text, page = (message.get_body((kind,)).get_content() for kind in ("plain", "html"))  # type: ignore[union-attr]
    assert "PO-AAAA-BBBB" in message["Subject"]
    for part in (text, page):
        assert "PO-AAAA-BBBB" in part
        token = re.search(r"/o/([^\s\"<]+)", part)
        assert token
        link = Links(services_of(app).settings).read_order(token.group(1))
        assert link is not None
        assert (link.reference, link.account_id) == ("PO-AAAA-BBBB", "001A")
        assert not re.search(r"[A-Z]+_[A-Z]+|whmcs|salesforce", part.replace(token.group(1), ""), re.I)
    assert message["Auto-Submitted"] == "auto-generated"
    assert message["Reply-To"] == "support@localhost"
    assert "<script" not in page
    assert "{{" not in text + page


@pytest.mark.parametrize("template", [each for each in ORDER_MAILS if each != "order_link"])
def test_a_mail_says_what_is_paid_and_what_recurs(app: Flask, template: str) -> None:
    settings = replace(services_of(app).settings, tax_note="Prices don't include VAT")
    message = Composer(settings).compose(payload(template, domain="xn--fa-hia.example"), now=services_of(app).now())
    for kind in ("plain", "html"):
        part = html.unescape(message.get_body((kind,)).get_content())  # type: ignore[union-attr]
        assert "2 × $5.00 a month" in part
        assert "then $10.00 a month" in part
        assert "faß.example" in part
        assert "Prices don't include VAT" in part


def test_the_merchants_review_time_stands_in_the_mail_of_a_new_order(app: Flask) -> None:
    note = "We review on working days, 9 to 17."
    settings = replace(services_of(app).settings, review_time_note=note)
    for template in ("received", "provisioned"):
        message = Composer(settings).compose(payload(template), now=services_of(app).now())
        for kind in ("plain", "html"):
            part = message.get_body((kind,)).get_content()  # type: ignore[union-attr]
            assert (note in part) is (template == "received"), kind


def test_what_people_typed_stays_text(app: Flask) -> None:
    services = services_of(app)
    hostile = payload("received", name="<b>Bold</b> & Söhne", domain='"><img src=x>')
    message = Composer(services.settings).compose(hostile, now=services.now())
    page = message.get_body(("html",)).get_content()  # type: ignore[union-attr]
    assert "&lt;b&gt;Bold&lt;/b&gt; &amp; Söhne" in page
    assert "<img" not in page
    text = message.get_body(("plain",)).get_content()  # type: ignore[union-attr]
    assert "<b>Bold</b> & Söhne" in text


def test_an_address_of_two_accounts_gets_a_link_for_each(app: Flask, stack: Stack) -> None:
    address = f"{secrets.token_hex(4)}@two.example"
    for customer in ("ada", "grace", "ada"):
        stack.salesforce.post(
            "seed",
            {
                "records": [
                    {
                        "type": "Contact",
                        "AccountId": stack.ids[f"account:{customer}"],
                        "LastName": "Both",
                        "Email": address,
                    }
                ]
            },
        )
    since = last_mail(stack)
    Mailer(services_of(app)).send({"template": "sign_in", "address": address})
    mail = mails_to(stack, address, wait=30, since=since)[0]
    tokens = [link.rsplit("/", 1)[1] for link in mail["links"] if "/sign-in/link/" in link]
    found = {Links(services_of(app).settings).read_sign_in(token).account_id for token in tokens}  # type: ignore[union-attr]
    assert found == {stack.ids["account:ada"], stack.ids["account:grace"]}
    assert len(tokens) == 2
    assert "Lovelace Analytics" in mail["text"]
    assert "Hopper Compilers" in mail["html"]


def test_each_mail_is_queued_once_however_often_the_status_is_set(app: Flask, stack: Stack) -> None:
    services = services_of(app)
    made = make_order(app, stack, SITUATIONS["activating"], email="once@mails.example")
    for _ in range(3):
        with services.ledger.write() as connection:
            orders.set_status(
                connection,
                made.sf_order_id,
                CustomerStatus.FAILED,
                now=services.now(),
                error_code=ErrorCode.PAYMENT_METHOD_MISSING.value,
            )
            orders.set_status(connection, made.sf_order_id, CustomerStatus.ACTIVATING, now=services.now())
            orders.set_status(connection, made.sf_order_id, CustomerStatus.PROVISIONED, now=services.now())
    rows = stack.ledger("SELECT once FROM outbox WHERE subject = ? ORDER BY id", made.reference)
    assert [row["once"] for row in rows] == [f"mail:needs_you:{made.reference}", f"mail:provisioned:{made.reference}"]


@pytest.mark.parametrize("kind", ["reject", "drop_before", "drop_after"])
def test_a_mail_the_server_did_not_take_goes_again(app: Flask, stack: Stack, kind: str) -> None:
    address = f"{secrets.token_hex(4)}@again.example"
    stack.mailbox.post("smtp-faults", {"kind": kind, "to": address})
    made = make_order(app, stack, email=address)
    with services_of(app).ledger.write() as connection:
        order = orders.get(connection, made.reference)
        assert order is not None
        orders.put_mail(connection, order, "provisioned", now=services_of(app).now())
    mails = mails_to(stack, address, wait=30)
    stack.wait_for(
        lambda: stack.ledger("SELECT state FROM outbox WHERE subject = ?", made.reference)[0]["state"] == "sent",
        "the outbox to be settled",
    )
    mails = mails_to(stack, address)
    assert len({mail["headers"]["Message-ID"] for mail in mails}) == 1
    assert len(mails) == (2 if kind == "drop_after" else 1)  # taken, but the 250 got lost: it may come twice
    assert made.reference in link_text(mails[0])


def link_text(mail: dict[str, Any]) -> str:
    assert link_in(mail, "/o/")
    return str(mail["text"])


def test_a_mail_that_went_twice_bears_the_same_message_id(app: Flask, stack: Stack) -> None:
    """Killed between the server's 250 and our record: the row is still pending and goes again."""
    address = f"{secrets.token_hex(4)}@twice.example"
    once = payload("provisioned", address)
    for _ in range(2):
        Mailer(services_of(app)).send(once)
    mails = mails_to(stack, address)
    assert len(mails) == 2
    assert {mail["headers"]["Message-ID"] for mail in mails} == {f"<{once['message_id']}@northwind.example>"}


def test_a_farewell_that_fails_sends_nothing_again(app: Flask, stack: Stack) -> None:
    address = f"{secrets.token_hex(4)}@farewell.example"
    stack.mailbox.post("smtp-faults", {"kind": "drop_after_250", "to": address})
    Mailer(services_of(app)).send(payload("provisioned", address))
    assert len(mails_to(stack, address)) == 1


def test_what_can_never_be_delivered_is_permanent(app: Flask, stack: Stack) -> None:
    address = f"{secrets.token_hex(4)}@never.example"
    for code, permanent in ((550, True), (451, False)):
        stack.mailbox.post("smtp-faults", {"kind": "reject", "to": address, "code": code, "message": "No such user"})
        with pytest.raises(UpstreamError) as caught:
            Mailer(services_of(app)).send(payload("provisioned", address))
        assert caught.value.permanent is permanent
        assert address not in str(caught.value)


def composed(tmp_path: Path, **values: Any) -> tuple[EmailMessage, SmtpTransport]:
    """A mail, and the transport of settings that differ in `values`."""
    settings = Settings(secret_key="k" * 32, portal_var_dir=tmp_path, **values)
    return Composer(settings).compose(payload("received"), now=1_700_000_000.0), SmtpTransport.from_settings(settings)


def test_a_server_that_is_not_there_is_a_passing_fault(tmp_path: Path) -> None:
    message, transport = composed(tmp_path, smtp_url="smtp://127.0.0.1:1")
    with pytest.raises(UpstreamError, match="can't be reached") as caught:
        transport.send(message)
    assert not caught.value.permanent


def test_development_without_a_server_keeps_mails_in_files(tmp_path: Path) -> None:
    message, transport = composed(tmp_path, portal_env="development")
    transport.send(message)
    name = message["Message-ID"].strip("<>").partition("@")[0]
    assert "PO-AAAA-BBBB" in (tmp_path / "mail" / f"{name}.eml").read_text()


def test_production_without_a_server_keeps_the_mail_in_the_outbox(tmp_path: Path) -> None:
    message, transport = composed(tmp_path)
    with pytest.raises(UpstreamError, match="SMTP_URL isn't set") as caught:
        transport.send(message)
    assert not caught.value.permanent
    assert not (tmp_path / "mail").exists()


def test_a_mail_bears_the_moment_it_was_made(tmp_path: Path) -> None:
    message, _ = composed(tmp_path)
    assert message["Date"] == "Tue, 14 Nov 2023 22:13:20 +0000"
