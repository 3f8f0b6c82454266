"""What the WHMCS client makes of what WHMCS says, and what of it nobody may read."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest

from portal.clients.whmcs.client import WhmcsClient
from portal.domain.model import OrderLine, Setup, UpstreamError
from tests.upstream.sandboxes import IDENTIFIER, SECRET
from tests.upstream.whmcs import ADDED, add_order, talking_to
from tests.upstream.wire import Act, answer, drop, raw

# --- secrets -------------------------------------------------------------------------------------------


def test_no_secret_and_no_customer_data_gets_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    canaries = [IDENTIFIER, SECRET, "jane.canary@example.com", "canary-street", "canary-password", "canary-access"]
    message = (
        f"Bad login for {IDENTIFIER}/{SECRET.upper()} of jane.canary@example.com, Canary-Street: "
        "password=canary-password"
    )
    acts = [
        answer({"result": "error", "message": message}),
        answer({"result": "error", "message": message}, 403),
        answer(message.encode(), 500),
        drop,
        raw(message.encode()),
    ]
    with talking_to(*acts, access_key="canary-access") as (wire, client):
        details = {"firstname": "Jane", "email": "jane.canary@example.com", "address1": "canary-street"}
        texts = [repr(client), str(client)]
        for _ in acts:
            with pytest.raises(UpstreamError) as caught:
                client.add_client(details)
            error: BaseException | None = caught.value
            assert error is not None
            assert error.__cause__ is None
            assert error.__context__ is None
            texts += [str(error), repr(error)]
        assert all(seen.target == "/includes/api.php" for seen in wire.seen)
        assert wire.seen[0].form["secret"] == SECRET
        assert wire.seen[0].form["accesskey"] == "canary-access"
    said = "\n".join([*texts, caplog.text]).lower()
    assert [canary for canary in canaries if canary.lower() in said] == []


# --- what WHMCS says -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "hint"),
    [
        ("Invalid IP 203.0.113.9", "203.0.113.9"),
        ("Authentication Failed", "WHMCS_API_IDENTIFIER"),
        ("Invalid or missing credentials", "WHMCS_API_SECRET"),
        ('Invalid Permissions: API action "addorder" is not allowed', "API role"),
    ],
)
def test_being_locked_out_is_no_fault_of_the_order(message: str, hint: str) -> None:
    refusal = answer({"result": "error", "message": message}, 403)
    with talking_to(refusal) as (_, client), pytest.raises(UpstreamError) as caught:
        add_order(client)
    error = caught.value
    assert (error.permanent, error.unknown, error.code) == (False, False, "auth")
    assert hint in error.message


def test_a_server_modules_authentication_failed_is_not_ours() -> None:
    refusal = answer({"result": "error", "message": "Authentication Failed"})
    with talking_to(refusal) as (_, client), pytest.raises(UpstreamError) as caught:
        client.accept_order("7")
    assert (caught.value.permanent, caught.value.code) == (True, "refused")


def test_add_order_on_the_wire() -> None:
    lines = [
        OrderLine(pid="5", billing_cycle="monthly", quantity=1, domain="a.example", price_override="9.50"),
        OrderLine(pid="6", billing_cycle="annually", quantity=3, hostname="h1"),
    ]
    with talking_to(answer({**ADDED, "orderid": 9, "invoiceid": 0, "serviceids": "11,12"})) as (wire, client):
        added = client.add_order("1", "mailin", lines, notes="sfOrderId=x", custom_fields={"6": {"101": "7"}})
        form = wire.seen[0].form
    assert (added.order_id, added.service_ids, added.invoice_id) == ("9", ("11", "12"), None)
    expected = {
        "action": "AddOrder",
        "responsetype": "json",
        "identifier": IDENTIFIER,
        "secret": SECRET,
        "clientid": "1",
        "paymentmethod": "mailin",
        "noemail": "1",
        "notes": "sfOrderId=x",
        "pid[0]": "5",
        "qty[0]": "1",
        "billingcycle[0]": "monthly",
        "domain[0]": "a.example",
        "priceoverride[0]": "9.50",
        "pid[1]": "6",
        "qty[1]": "3",
        "billingcycle[1]": "annually",
        "hostname[1]": "h1",
        "customfields[1]": "YToxOntpOjEwMTtzOjE6IjciO30=",
    }
    assert form == expected


def test_quantities_of_one_are_left_out_and_old_answers_understood() -> None:
    old = answer({"result": "success", "orderid": "9", "productids": "4", "invoiceid": ""})
    with talking_to(old) as (wire, client):
        added = add_order(client)
        assert not [name for name in wire.seen[0].form if name.startswith("qty")]
    assert (added.service_ids, added.invoice_id) == (("4",), None)


def orders_page(ids: list[int], total: int | str) -> Act:
    rows = [{"id": str(number), "userid": "1", "status": "Pending", "notes": ""} for number in ids]
    return answer({"result": "success", "totalresults": total, "orders": {"order": rows} if rows else ""})


def test_a_listing_is_read_to_its_end_though_pages_are_short() -> None:
    with talking_to(orders_page([1, 2], "5"), orders_page([3, 4], 5), orders_page([5], "5")) as (wire, client):
        assert [order.id for order in client.orders_of("1")] == ["1", "2", "3", "4", "5"]
        assert [seen.form["limitstart"] for seen in wire.seen] == ["0", "2", "4"]
        assert {seen.form["userid"] for seen in wire.seen} == {"1"}


def test_a_listing_that_changed_while_being_read_is_read_again() -> None:
    # An order placed between the pages pushes 2 onto the second page, too.
    acts = [orders_page([3, 2], 3), orders_page([2, 1], 4), orders_page([4, 3], 4), orders_page([2, 1], 4)]
    with talking_to(*acts) as (wire, client):
        assert {order.id for order in client.orders_of("1")} == {"1", "2", "3", "4"}
        assert len(wire.seen) == 4


def test_a_row_that_slipped_between_pages_is_found_in_a_second_pass() -> None:
    acts = [orders_page([1, 2], 3), orders_page([2], 3), orders_page([2, 3], 3)]
    with talking_to(*acts) as (_, client):
        assert {order.id for order in client.orders_of("1")} == {"1", "2", "3"}


@pytest.mark.parametrize(
    "acts",
    [
        [orders_page([1], 2)],  # the same page, whatever is asked
        [orders_page([1], 3), orders_page([], 3)] * 6,  # rows that are never given
        [orders_page([1], total) for total in range(2, 20)],  # never the same twice
        [answer({"result": "success", "orders": ""})],  # no total at all
        [orders_page([1, 2, 3], 2)],  # more than there are
    ],
)
def test_a_listing_that_never_adds_up_is_unstable_and_ends(acts: list[Act]) -> None:
    with talking_to(*acts) as (wire, client), pytest.raises(UpstreamError) as caught:
        client.orders_of("1")
    assert (caught.value.code, caught.value.permanent, caught.value.unknown) == ("listing_unstable", False, False)
    assert len(wire.seen) <= 20


def test_an_empty_listing() -> None:
    with talking_to(orders_page([], "0")) as (wire, client):
        assert client.orders_of("1") == []
        assert len(wire.seen) == 1


def test_a_client_that_was_not_asked_for_is_refused() -> None:
    stranger = {"result": "success", "client": {"id": "2", "email": "b@example.com", "status": "Active"}}
    with talking_to(answer(stranger)) as (_, client):
        with pytest.raises(UpstreamError):
            client.client(client_id="1")
        assert client.client(email="a@example.com") is None
        found = client.client(email="B@Example.com")
        assert found is not None
        assert found.id == "2"


def test_products_are_asked_one_by_one_where_lists_are_not_understood() -> None:
    def product(pid: int) -> dict[str, Any]:
        return {"pid": pid, "name": "P", "paytype": "recurring", "pricing": {"USD": {"monthly": "1.00"}}}

    acts = [
        answer({"result": "success", "products": {"product": [product(5)]}}),
        answer({"result": "success", "products": {"product": product(6)}}),
        answer({"result": "success", "totalresults": 0, "products": ""}),
    ]
    with talking_to(*acts) as (wire, client):
        assert [found.pid for found in client.products(["5", "6", "7", "5"])] == ["5", "6"]
        assert [seen.form["pid"] for seen in wire.seen] == ["5,6,7", "6", "7"]


def test_a_destination_whmcs_does_not_know_is_left_out() -> None:
    link = "https://billing.example/oauth/singlesignon.php?access_token=x"
    acts = [
        answer({"result": "error", "message": "Invalid destination"}),
        answer({"result": "success", "access_token": "x", "redirect_url": link}),
    ]
    with talking_to(*acts) as (wire, client):
        assert client.sso_link("1", "clientarea:nowhere") == link
        assert "destination" not in wire.seen[1].form
    script = answer({"result": "success", "redirect_url": "javascript:alert(1)"})
    with talking_to(script) as (_, client), pytest.raises(UpstreamError):
        client.sso_link("1")


# --- words -----------------------------------------------------------------------------------------------------

READS: dict[str, Callable[[WhmcsClient], Any]] = {
    "GetClientsDetails": lambda client: client.client(client_id="7"),
    "GetPayMethods": lambda client: client.pay_methods("7"),
    "GetClientsProducts": lambda client: client.services("7"),
    "GetOrders": lambda client: client.orders_of("7"),
    "GetProducts": lambda client: client.products(["5"]),
    "GetInvoice": lambda client: client.invoice_status("9"),
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
@pytest.mark.parametrize(
    ("words", "code"),
    [
        ("SQLSTATE[HY000] [2002] Connection refused", "trouble_of_the_moment"),
        ("Down for Maintenance (Err 3)", "trouble_of_the_moment"),
        ("", "trouble_of_the_moment"),
        ("Please try again", "unknown_words"),
        ("Call to undefined function", "unknown_words"),
        ("The server said: client not found in its cache", "unknown_words"),
    ],
)
def test_unknown_words_on_a_read_are_passing_trouble(read: Callable[[WhmcsClient], Any], words: str, code: str) -> None:
    with (
        talking_to(answer({"result": "error", "message": words})) as (_, client),
        pytest.raises(UpstreamError) as caught,
    ):
        read(client)
    error = caught.value
    assert (error.permanent, error.unknown, error.setup, error.code) == (False, False, None, code)


def test_the_few_words_that_are_final_for_a_read() -> None:
    def said(words: str) -> Any:
        return talking_to(answer({"result": "error", "message": words}))

    for words in ("Client Not Found", "Client ID Not Found."):
        for action in ("GetPayMethods", "GetClientsProducts"):
            with said(words) as (_, client), pytest.raises(UpstreamError) as caught:
                READS[action](client)
            assert (caught.value.permanent, caught.value.code) == (True, "client_not_found")
        with said(words) as (_, client):
            assert client.client(client_id="7") is None
    with said("Order ID Not Found") as (_, client):
        assert client.order("7") is None
    with said("Invoice ID Not Found") as (_, client):
        assert client.invoice_status("7") is None


@pytest.mark.parametrize("read", [read for action, read in READS.items() if action != "GetClientsDetails"])
@pytest.mark.parametrize("body", [{"result": "success", "warning": "Deprecated"}, {"warning": "Deprecated"}])
def test_a_bare_warning_says_nothing_about_what_there_is(read: Callable[[WhmcsClient], Any], body: Any) -> None:
    with talking_to(answer(body)) as (_, client), pytest.raises(UpstreamError) as caught:
        read(client)
    assert not caught.value.permanent
    assert caught.value.code in ("unexpected_answer", "no_result")


def test_a_bare_warning_leaves_an_effect_unknown() -> None:
    for call in (add_order, lambda client: client.accept_order("7")):
        with talking_to(answer({"warning": "Deprecated"})) as (_, client), pytest.raises(UpstreamError) as caught:
            call(client)
        assert (caught.value.unknown, caught.value.permanent, caught.value.code) == (True, False, "no_result")


@pytest.mark.parametrize(
    ("words", "permanent"),
    [
        ("Client ID Not Found", True),
        ("Unable to add order when client status is Closed", True),
        ("Invalid Payment Method. Valid options include mailin,paypal", True),
        ("No items added to cart so order cannot proceed", True),
        ("Expecting parameter 'pid' to be an array", True),
        ("Deadlock found when trying to get lock", False),
        ("A hook says no", False),
    ],
)
def test_add_order_is_refused_for_good_in_documented_words_only(words: str, permanent: bool) -> None:
    with (
        talking_to(answer({"result": "error", "message": words})) as (_, client),
        pytest.raises(UpstreamError) as caught,
    ):
        add_order(client)
    error = caught.value
    assert (error.permanent, error.unknown, error.action) == (permanent, False, "AddOrder")
    assert words in error.message


@pytest.mark.parametrize(
    ("words", "permanent"),
    [
        ("Order ID not found or Status not Pending", True),
        ("Could not connect to the server", True),
        ("The account already exists", True),
        ("SQLSTATE[40001]: Serialization failure: 1213 Deadlock found", False),
        ("Down for Maintenance (Err 3)", False),
    ],
)
def test_a_modules_words_refuse_an_acceptance_and_whmcs_own_trouble_does_not(words: str, permanent: bool) -> None:
    with (
        talking_to(answer({"result": "error", "message": words})) as (_, client),
        pytest.raises(UpstreamError) as caught,
    ):
        client.accept_order("7")
    assert (caught.value.permanent, caught.value.unknown) == (permanent, False)
    assert not permanent or words in caught.value.message


@pytest.mark.parametrize(
    ("status", "words", "setup"),
    [
        (403, "Invalid IP 203.0.113.9", Setup.SIDE),
        (403, "Authentication Failed", Setup.SIDE),
        (200, "Invalid or missing credentials", Setup.SIDE),
        (403, 'Invalid Permissions: API action "getorders" is not allowed', Setup.ACTION),
        (200, 'Invalid API Action: "getorders" is not a valid API action', Setup.ACTION),
    ],
)
def test_what_concerns_the_installation_is_its_set_up(status: int, words: str, setup: Setup) -> None:
    act = answer({"result": "error", "message": words}, status)
    with talking_to(act) as (_, client), pytest.raises(UpstreamError) as caught:
        client.orders_of("7")
    assert (caught.value.setup, caught.value.permanent, caught.value.code) == (setup, False, "auth")
    assert words in caught.value.message
