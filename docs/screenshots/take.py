"""Takes the screenshots beside this file anew, from a stack of its own: `python -m docs.screenshots.take`."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from sandbox.stack import OPERATOR
from tests.stack import Stack

FOLDER = Path(__file__).parent
WIDE = {"width": 1000, "height": 720}
PHONE = {"width": 390, "height": 780}


def shoot(page: Page, name: str) -> None:
    """One picture of what is to be seen without scrolling."""
    page.evaluate("scrollTo(0, 0)")
    page.screenshot(path=str(FOLDER / f"{name}.png"))


def sign_in(page: Page, stack: Stack, email: str, *, picture: bool = False) -> None:
    """Through the mailbox, as a customer does."""
    page.goto(f"{stack.urls['portal']}/sign-in")
    if picture:
        shoot(page, "sign-in")
    page.get_by_label("e-mail address").fill(email)
    page.get_by_role("button", name="E-mail me a link").click()
    page.wait_for_url("**/sign-in/sent*")
    if picture:
        shoot(page, "sign-in-sent")
    [mail] = stack.mailbox.get("messages", to=email, wait=30)["messages"][-1:]
    if picture:
        page.goto(f"{stack.urls['mailbox']}/mails/{mail['id']}")
        shoot(page, "mailbox")
    page.goto(next(link for link in mail["links"] if "/sign-in/link/" in link))
    if picture:
        shoot(page, "sign-in-confirm")
    page.get_by_role("button", name="Sign in").click()


def order(page: Page, stack: Stack, *, picture: bool = False) -> str:
    """Order two things; returns the reference."""
    page.goto(f"{stack.urls['portal']}/")
    page.get_by_label("Domain name for Starter Hosting").fill("lovelace.example")
    if picture:
        shoot(page, "catalogue")
    page.locator("li", has_text="Starter Hosting").get_by_role("button").click()
    page.goto(f"{stack.urls['portal']}/")
    page.locator("li", has_text="Priority Support").get_by_role("button").click()
    if picture:
        shoot(page, "basket")
    page.goto(f"{stack.urls['portal']}/checkout")
    if picture:
        shoot(page, "checkout")
    page.locator("form[action$='/checkout'] button").click()
    page.wait_for_url("**/placed")
    if picture:
        shoot(page, "placed")
    return page.url.split("/orders/")[1].split("/")[0]


def in_salesforce(stack: Stack, reference: str) -> str:
    """The Order made of a reference, once it is there."""

    def look() -> str | None:
        rows = stack.salesforce.get("state", objects="Order")["Order"]
        return next((row["Id"] for row in rows if row["Portal_Reference__c"] == reference), None)

    return stack.wait_for(look, "the order in Salesforce")


def operators_pages(page: Page, stack: Stack, sf_order: str) -> None:
    """What is the matter now, and one order's story, as an operator sees them."""
    page.goto(f"{stack.urls['portal']}/ops")
    page.get_by_label("address").fill(OPERATOR)
    page.get_by_role("button", name="E-mail me a link").click()

    def link() -> str | None:  # among whatever alerts the operator gets
        mails = stack.mailbox.get("messages", to=OPERATOR)["messages"]
        return next((each for mail in mails for each in mail["links"] if "/ops/sign-in/link/" in each), None)

    page.goto(stack.wait_for(link, "the operator's link"))
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("heading", name="Now").wait_for()
    shoot(page, "ops-now")
    page.goto(f"{stack.urls['portal']}/ops/orders/{sf_order}")
    shoot(page, "ops-order")


def main() -> None:
    """Ada's first order goes well, a service of her second can't be set up; Grace's lacks a payment method."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with (
        tempfile.TemporaryDirectory() as folder,
        Stack(Path(folder)) as stack,
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]) as browser,
    ):
        page = browser.new_page(viewport=WIDE)
        sign_in(page, stack, "ada@lovelace.example", picture=True)
        reference = order(page, stack, picture=True)
        sf_order = in_salesforce(stack, reference)
        page.goto(f"{stack.urls['portal']}/orders/{reference}")
        shoot(page, "order-pending-review")
        page.goto(f"{stack.urls['portal']}/orders/{reference}/withdraw")
        shoot(page, "withdraw")
        page.goto(f"{stack.urls['salesforce']}/orders/{sf_order}")
        shoot(page, "salesforce")
        page.get_by_role("button", name="Provision in WHMCS").click()
        stack.finished(sf_order)
        page.goto(f"{stack.urls['portal']}/orders/{reference}")
        shoot(page, "order-provisioned")
        page.set_viewport_size(PHONE)
        shoot(page, "order-phone")
        page.set_viewport_size(WIDE)
        page.goto(f"{stack.urls['whmcs']}/")
        shoot(page, "whmcs")
        undecided = in_salesforce(stack, order(page, stack))
        page.goto(f"{stack.urls['portal']}/orders")
        shoot(page, "orders")
        page.goto(f"{stack.urls['portal']}/account")
        shoot(page, "account")

        page = browser.new_page(viewport=WIDE)
        sign_in(page, stack, "grace@hopper.example")
        reference = order(page, stack)
        sf_order = in_salesforce(stack, reference)
        stack.press_button(sf_order)
        stack.finished(sf_order)
        page.goto(f"{stack.urls['portal']}/orders/{reference}")
        shoot(page, "order-failed")

        stack.whmcs.post("module-failures", {"message": "no space left on the server", "count": 1})
        stack.press_button(undecided)
        stack.finished(undecided)
        operators_pages(browser.new_page(viewport=WIDE), stack, undecided)


if __name__ == "__main__":
    main()
