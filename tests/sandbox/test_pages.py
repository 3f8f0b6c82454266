"""The pretend sides' pages: everything escaped, nothing from outside, buttons by POST; and the mailbox."""

from __future__ import annotations

import html
import re
import smtplib
from collections.abc import Callable
from email.message import EmailMessage
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from simple_salesforce.exceptions import SalesforceMalformedRequest

from sandbox.control import Mailbox, SalesforceSandbox, WhmcsSandbox
from sandbox.demo import banner, personas
from sandbox.seeds import CUSTOMERS
from sandbox.stack import USUAL_PORTS, Stack
from tests.sandbox.conftest import Sides

EVIL = "<script>alert(1)</script>\"'&"


class Outline(HTMLParser):
    """Tags that open and close, and what could come from elsewhere."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.scripts = 0
        self.outside: list[str] = []
        self.language = ""
        self.feed(text)
        assert self.open == [], f"not closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "html":
            self.language = values.get("lang") or ""
        self.scripts += tag == "script"
        if tag in ("link", "img", "script", "iframe") and (values.get("src") or values.get("href")):
            self.outside.append(tag)
        if tag not in ("meta", "input", "br", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(url: str) -> str:
    """A page that is well-formed, in a language, without scripts and outside resources."""
    answer = requests.get(url, timeout=30)
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    outline = Outline(answer.text)
    assert (outline.language, outline.scripts, outline.outside) == ("en", 0, [])
    assert 'name="viewport"' in answer.text
    return answer.text


def test_pages_of_the_org(org: SalesforceSandbox, new_order: Callable[..., str]) -> None:
    key = new_order("starter", Description=EVIL)
    account = org.seed(records=[{"type": "Account", "Name": EVIL}])["ids"][0]
    org.set(
        "Order",
        key,
        AccountId=account,
        Provisioning_Error_Message__c=EVIL,
        WHMCS_Order_ID__c="77",
        Provisioning_Error_Code__c="PAYMENT_METHOD_MISSING",
    )
    for path in ("/", "/accounts", "/products", f"/orders/{key}"):
        page = read(org.url + path)
        assert EVIL not in page
    assert html.escape(EVIL) in page
    assert "Provision in WHMCS" in page
    assert "PAYMENT_METHOD_MISSING" in page
    assert requests.get(f"{org.url}/orders/{key}/provision", timeout=30).status_code == 404, "buttons are POST"
    requests.post(f"{org.url}/orders/{key}/status", data={"status": "Rejected"}, timeout=30)
    assert org.order(key)["Status"] == "Rejected"
    assert requests.get(f"{org.url}/orders/801000000000001", timeout=30).status_code == 404


def test_pages_of_whmcs(whmcs: WhmcsSandbox, api: Callable[..., requests.Response], client: Callable[..., int]) -> None:
    customer = client("pages@example.com", firstname=EVIL)
    made = [
        api(
            "AddOrder",
            **{
                "clientid": customer,
                "paymentmethod": "stripe",
                "pid[0]": 1,
                "domain[0]": EVIL,
                "billingcycle[0]": "monthly",
                "notes": EVIL,
            },
        ).json()["orderid"]
        for _ in range(3)
    ]
    for path in ("/", "/clients", f"/clients/{customer}", f"/orders/{made[0]}", "/invoices", "/products", "/activity"):
        assert EVIL not in read(whmcs.url + path)
    for order, action, status in (
        (made[0], "accept", "Active"),
        (made[0], "cancel", "Cancelled"),
        (made[1], "fraud", "Fraud"),
    ):
        requests.post(f"{whmcs.url}/orders/{order}/{action}", timeout=30)
        assert next(each for each in whmcs.orders_of(customer) if str(each["id"]) == order)["status"] == status
    assert requests.post(f"{whmcs.url}/orders/{made[1]}/accept", timeout=30).status_code == 409
    requests.post(f"{whmcs.url}/clients/{customer}/paymethods", timeout=30)
    assert len(api("GetPayMethods", clientid=customer).json()["paymethods"]) == 1


def test_the_client_area(
    whmcs: WhmcsSandbox, api: Callable[..., requests.Response], client: Callable[..., int]
) -> None:
    customer = client("area@example.com")
    whmcs.settings(portal_url="http://portal.example", webhooks=False)
    link = api("CreateSsoToken", client_id=customer, destination="clientarea:payment_methods").json()["redirect_url"]
    with requests.Session() as browser:
        page = browser.get(link, timeout=30)
        assert page.status_code == 200
        assert "No payment method on file" in page.text
        assert 'href="http://portal.example/orders"' in page.text
        page = browser.post(page.url, timeout=30)
        assert "Visa ending 4242" in page.text
    assert len(api("GetPayMethods", clientid=customer).json()["paymethods"]) == 1
    assert requests.get(link, timeout=30).status_code == 403, "a link works once"
    assert requests.get(f"{whmcs.url}/clientarea/payment-methods", timeout=30).status_code == 403
    assert api("CreateSsoToken", client_id=999_999).json()["result"] == "error"
    whmcs.settings(portal_url=None)


def mail(mailbox: Mailbox, to: str, subject: str = "Hello") -> None:
    """One mail with a text and an HTML part."""
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", to, subject
    message.set_content("Grüße! Sign in: http://portal.example/sign-in?token=a&x=<b>.\n<script>no</script>\n")
    message.add_alternative("<p>Hi <b>there</b></p>\"'", subtype="html")
    parts = urlsplit(mailbox.smtp_url)
    with smtplib.SMTP(parts.hostname or "", parts.port or 0, timeout=30) as server:
        server.send_message(message)


def test_mails(mailbox: Mailbox) -> None:
    mail(mailbox, "ann@example.com", EVIL)
    found = mailbox.wait_for_mail("ann@")
    assert (found["subject"], found["from"], found["to"]) == (EVIL, "shop@example.com", ["ann@example.com"])
    assert found["links"] == ["http://portal.example/sign-in?token=a&x="]
    assert "Grüße" in found["text"]
    assert "<b>there</b>" in found["html"]
    assert EVIL not in read(mailbox.url + "/")
    page = read(f"{mailbox.url}/mails/{found['id']}")
    assert '<a href="http://portal.example/sign-in?token=a&amp;x="' in page
    frame = re.search(r'<iframe [^>]*srcdoc="([^"]*)"', page)
    assert frame is not None
    assert 'sandbox="allow-popups' in frame.group()
    assert "<b>there</b>" in html.unescape(frame.group(1))
    assert mailbox.messages(since=found["id"]) == []
    assert mailbox.messages(to="nobody") == []
    mailbox.clear()
    assert mailbox.messages() == []


@pytest.mark.parametrize(
    ("kind", "error", "kept"),
    [
        ("reject", smtplib.SMTPDataError, 0),
        ("drop_before", smtplib.SMTPServerDisconnected, 0),
        ("drop_after", smtplib.SMTPServerDisconnected, 1),
        ("drop_after_250", None, 1),
    ],
)
def test_faults_of_the_mailbox(mailbox: Mailbox, kind: str, error: type[Exception] | None, kept: int) -> None:
    to = f"{kind}@example.com"
    mailbox.smtp_fault(kind, to=to, code=452, message="Full")
    if error is None:
        mail(mailbox, to)
    else:
        with pytest.raises(error) as caught:
            mail(mailbox, to)
        if kind == "reject":
            assert isinstance(caught.value, smtplib.SMTPDataError)
            assert caught.value.smtp_code == 452
    assert len(mailbox.messages(to=to)) == kept
    mail(mailbox, to)
    assert len(mailbox.messages(to=to)) == kept + 1
    mailbox.clear_smtp_faults()


def test_a_mailbox_that_hangs(mailbox: Mailbox) -> None:
    mailbox.smtp_fault("hang", to="hang@example.com", seconds=0.3)
    with pytest.raises(smtplib.SMTPDataError):
        mail(mailbox, "hang@example.com")
    assert mailbox.messages(to="hang@") == []


def test_seeding(sides: Sides, sf: Any, new_order: Callable[..., str]) -> None:
    order = new_order()
    made = sides.org.seed(
        fields={"Order": {"Extra__c": {"type": "string", "length": 5}}},
        records=[
            {"type": "Account", "ref": "a", "Name": "Seeded"},
            {"type": "Contact", "AccountId": "@{a}", "LastName": "Child"},
        ],
    )
    contact = next(each for each in sides.org.state("Contact")["Contact"] if each["Id"] == made["ids"][1])
    assert contact["AccountId"] == made["names"]["a"]
    assert contact["Name"] == "Child"
    sf.Order.update(order, {"Extra__c": "12345"})
    with pytest.raises(SalesforceMalformedRequest, match="STRING_TOO_LONG"):
        sf.Order.update(order, {"Extra__c": "123456"})
    assert sides.org.order(order)["Extra__c"] == "12345"
    sides.org.seed(delete=[{"type": "Order", "Id": order}])
    assert order not in [each["Id"] for each in sides.org.state("Order")["Order"]]
    sides.whmcs.set("clients", 1, status="Inactive")
    assert sides.whmcs.state("clients")["clients"][0]["status"] == "Inactive"
    sides.whmcs.set("clients", 1, status="Active")


def test_the_demo_names_every_customer_where_it_tells_its_story(tmp_path: Path) -> None:
    urls = {name: f"http://127.0.0.1:{port}" for name, port in USUAL_PORTS.items()}
    stack = Stack(tmp_path)
    stack.urls = urls
    told = banner(stack, tmp_path)
    for address in (*urls.values(), *(each.email for each in CUSTOMERS.values())):
        assert address in told, address
    for each, line in zip(CUSTOMERS.values(), personas().splitlines(), strict=True):
        assert line.split()[:2] == [each.email, each.first]
        assert len(line.split()) > 5, f"what becomes of {each.first}'s first order"
