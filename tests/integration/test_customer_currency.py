"""An org with several currencies: each account sees, orders and is mailed its own, with that currency's own digits."""

from __future__ import annotations

import html

import pytest

from sandbox.visitor import Visitor
from tests.customers import email_of, fill_basket, follow, in_salesforce, mails_to, reference_of, salesforce_id, sign_in
from tests.stack import Stack

#: Each customer's currency, its prices of two products, and how 1 × and all of it are written.
PRICES = {
    "ada": ("KWD", {"starter": 1.25, "business": 36.5}, "KWD 1.250", "KWD 37.750"),
    "grace": ("JPY", {"starter": 750, "business": 18000}, "¥750", "¥18,750"),
}


@pytest.fixture
def shop(own_stack: Stack) -> Stack:
    """A stack whose Salesforce has several currencies; who isn't signed in sees US dollars."""
    own_stack.start()
    own_stack.salesforce.post("settings", {"multi_currency": True})
    ids = own_stack.ids
    for customer, (currency, prices, _, _) in PRICES.items():
        entries = [
            {
                "type": "PricebookEntry",
                "Pricebook2Id": ids["pricebook"],
                "Product2Id": ids[f"product:{product}"],
                "UnitPrice": price,
                "CurrencyIsoCode": currency,
                "IsActive": True,
            }
            for product, price in prices.items()
        ]
        account = {"type": "Account", "Id": ids[f"account:{customer}"], "CurrencyIsoCode": currency}
        own_stack.salesforce.post("seed", {"records": entries, "update": [account]})
    for part in ("worker", "sweep", "web"):  # they may have asked already what fields this org has
        own_stack.restart(part)
    return own_stack


def test_one_currency_from_the_catalogue_to_salesforce_and_the_mails(shop: Stack) -> None:
    for customer in PRICES:
        order_in_own_currency(shop, customer)


def order_in_own_currency(shop: Stack, customer: str) -> None:
    currency, _, one, total = PRICES[customer]
    portal = shop.urls["portal"]
    with Visitor() as visitor:
        before = visitor.get(f"{portal}/")
        assert "$5.00" in before.text
        assert one not in before.text, "a stranger sees the shop's own currency"
        fill_basket(shop, visitor, "starter", "business", "support")
        sign_in(shop, visitor, customer)
        offered = visitor.get(f"{portal}/").text
        assert one in offered
        assert "$" not in offered, "a price in another currency isn't offered"
        assert "Priority Support" not in offered, "it has no price in this one"
        basket = visitor.get(f"{portal}/basket").text
        assert "Something in your basket is no longer offered" in basket
        assert "no longer offered" not in visitor.get(f"{portal}/basket").text, "said once"
        pages = [visitor.get(f"{portal}/checkout")]
        placed = visitor.submit(pages[0].form("/checkout"))
        reference = reference_of(placed)
        pages += [placed, visitor.get(f"{portal}/orders/{reference}")]
        for page in pages:
            assert f"1 × {one} a month" in page.text, page.text
            assert total in page.text
            assert f"then {one} a month and" in page.text
        assert total in visitor.get(f"{portal}/orders").text
        order = salesforce_id(shop, reference)
        (record,) = in_salesforce(shop, reference)
        assert record["CurrencyIsoCode"] == currency
        (mail,) = mails_to(shop, email_of(customer), subject="We have your order", wait=30)
        for part in (mail["text"], html.unescape(mail["html"])):
            part = part.replace("\u00a0", " ")
            assert total in part
            assert "$" not in part
        if customer == "ada":
            assert shop.press_button(order)["status"] == 200
            assert total in follow(shop, visitor, reference, "Your order is ready").text
