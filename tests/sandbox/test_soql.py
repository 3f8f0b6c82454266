"""SOQL as the pretend org understands it: what the real one takes, takes the same; what it refuses, is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sandbox.salesforce import ids, soql
from sandbox.salesforce.errors import SfError
from sandbox.salesforce.records import Records
from sandbox.salesforce.schema import INDEXES
from sandbox.store import Store

SETTINGS = {"username": "u@example.com", "edit_activated_orders": True}


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Records]:
    folder: Path = tmp_path_factory.mktemp("soql")
    store = Store(folder / "org.sqlite3", INDEXES)
    org = Records(store, SETTINGS)
    with store.transaction() as change:
        book = org.insert(change, "Pricebook2", {"Name": "Book", "IsActive": True})
        product = org.insert(change, "Product2", {"Name": "Hosting", "Billing_Cycle__c": "Monthly"})
        entry = org.insert(
            change, "PricebookEntry", {"Pricebook2Id": book, "Product2Id": product, "UnitPrice": 5.0, "IsActive": True}
        )
        accounts = [
            org.insert(change, "Account", {"Name": name, "Phone": phone})
            for name, phone in (('O\'Brien "Q" 100%', "1"), ("acme_b", None), ("ACMEXB", "3"), ("Zoë\\", "4"))
        ]
        for number, (status, account, total, when) in enumerate(
            (
                ("Draft", 0, 1, "2026-01-01T10:00:00.000+0000"),
                ("Pending Review", 1, 2, "2026-02-01T10:00:00.000+0000"),
                ("Pending Review", 2, 3, None),
                ("Cancelled", 3, 0, "2026-03-01T00:00:00.000+0000"),
            )
        ):
            order = org.insert(
                change,
                "Order",
                {
                    "AccountId": accounts[account],
                    "Status": status,
                    "EffectiveDate": f"2026-0{number + 1}-15",
                    "Last_Provisioning_At__c": when,
                    "Portal_Reference__c": f"ref-{number}",
                },
            )
            for _ in range(total):
                org.insert(
                    change,
                    "OrderItem",
                    {"OrderId": order, "PricebookEntryId": entry, "Quantity": 1.0, "UnitPrice": 5.0},
                )
    yield org
    store.close()


def run(records: Records, text: str) -> list[dict[str, Any]]:
    """A query's records."""
    query = soql.Parser(text, records).parse()
    return [soql.render(records, query, row, "v67.0") for row in soql.matching(records, query, False)]


def references(records: Records, where: str) -> list[int]:
    """Which of the four orders a WHERE (and what follows) selects."""
    found = run(records, f"SELECT Portal_Reference__c FROM Order {where}")
    return [int(row["Portal_Reference__c"][-1]) for row in found]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("WHERE Status = 'pending review'", [1, 2]),
        ("WHERE Status != 'Draft'", [1, 2, 3]),
        ("WHERE Status <> 'Draft' AND Status != 'Cancelled'", [1, 2]),
        ("WHERE Status IN ('Draft', 'Cancelled')", [0, 3]),
        ("WHERE Status NOT IN ('Draft', 'Cancelled')", [1, 2]),
        ("WHERE NOT Status = 'Draft'", [1, 2, 3]),
        ("WHERE NOT (Status = 'Draft' OR Status = 'Cancelled')", [1, 2]),
        ("WHERE (Status = 'Draft' OR Status = 'Cancelled') AND Account.Phone = '1'", [0]),
        ("WHERE Last_Provisioning_At__c = null", [2]),
        ("WHERE Last_Provisioning_At__c != NULL", [0, 1, 3]),
        ("WHERE Last_Provisioning_At__c > 2026-01-01T12:00:00+02:00", [1, 3]),
        ("WHERE Last_Provisioning_At__c >= 2026-01-01T12:00:00+02:00", [0, 1, 3]),
        ("WHERE Last_Provisioning_At__c < 2026-02-01T00:00:00Z", [0]),
        ("WHERE EffectiveDate <= 2026-02-15", [0, 1]),
        ("WHERE EffectiveDate < TODAY AND EffectiveDate > 2026-03-01", [2, 3]),
        ("WHERE TotalAmount > 5.5", [1, 2]),
        ("WHERE TotalAmount = 0", [3]),
        ("WHERE IsDeleted = false", [0, 1, 2, 3]),
        ("WHERE Account.Name LIKE 'acme\\_%'", [1]),
        ("WHERE Account.Name LIKE 'ACME_b'", [1, 2]),
        ("WHERE Account.Name LIKE '%100\\%'", [0]),
        ("WHERE Account.Name = 'O\\'Brien \\\"Q\\\" 100%'", [0]),
        ("WHERE Account.Name = 'Zo\\u00eb\\\\'", [3]),
        ("WHERE Account.Phone = ''", [1]),
        ("WHERE Id IN (SELECT OrderId FROM OrderItem WHERE Quantity = 1)", [0, 1, 2]),
        ("WHERE Id NOT IN (SELECT OrderId FROM OrderItem)", [3]),
        ("ORDER BY Status, Portal_Reference__c DESC", [3, 0, 2, 1]),
        ("ORDER BY Last_Provisioning_At__c", [2, 0, 1, 3]),
        ("ORDER BY Last_Provisioning_At__c DESC NULLS LAST", [3, 1, 0, 2]),
        ("ORDER BY TotalAmount DESC LIMIT 2", [2, 1]),
        ("ORDER BY TotalAmount LIMIT 2 OFFSET 1", [0, 1]),
        ("LIMIT 0", []),
    ],
)
def test_where(records: Records, where: str, expected: list[int]) -> None:
    assert references(records, where) == expected


def test_ids_in_both_lengths(records: Records) -> None:
    key = run(records, "SELECT Id FROM Order LIMIT 1")[0]["Id"]
    assert references(records, f"WHERE Id = '{key}'") == references(records, f"WHERE Id = '{key[:15]}'") == [0]
    assert references(records, f"WHERE Id IN ('{key[:15]}', '801000000000001')") == [0]


def test_names_are_spelled_as_in_the_schema(records: Records) -> None:
    row = run(
        records,
        "select id, account.NAME, (select pricebookentry.product2.name from orderitems limit 1) "
        "from order where account.phone = '1'",
    )[0]
    assert row["Account"]["Name"].startswith("O'Brien")
    assert row["OrderItems"]["records"][0]["PricebookEntry"]["Product2"]["Name"] == "Hosting"


def test_missing_parent_is_null(records: Records) -> None:
    assert run(records, "SELECT BillToContact.Name FROM Order LIMIT 1")[0]["BillToContact"] is None


def test_count_and_fields(records: Records) -> None:
    query = soql.Parser("SELECT COUNT(Id) total, COUNT(Last_Provisioning_At__c) FROM Order", records).parse()
    assert query.counts == [("Id", "total"), ("Last_Provisioning_At__c", None)]
    assert soql.Parser("SELECT COUNT() FROM Order", records).parse().count_rows
    assert set(run(records, "SELECT FIELDS(CUSTOM) FROM Account LIMIT 1")[0]) == {"attributes", "WHMCS_Client_ID__c"}


@pytest.mark.parametrize(
    ("text", "code", "words"),
    [
        ("", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT FROM Order", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Id", "MALFORMED_QUERY", "<EOF>"),
        ("SELECT Id FROM Order WHERE", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Id, FROM Order", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Id Status FROM Order", "MALFORMED_QUERY", "'Status'"),
        ("SELECT Id, Id FROM Order", "MALFORMED_QUERY", "duplicate field selected: Id"),
        ("SELECT Id FROM Order WHERE Status = 'Draft", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Id FROM Order WHERE Status = 'a\\qb'", "MALFORMED_QUERY", "Illegal character sequence"),
        ("SELECT Id FROM Order WHERE Status = 'a' AND Status = 'b' OR Status = 'c'", "MALFORMED_QUERY", "'OR'"),
        ("SELECT Id FROM Order WHERE Status == 'a'", "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Id FROM Order LIMIT x", "MALFORMED_QUERY", "'x'"),
        ("SELECT Id FROM Order; DELETE", "MALFORMED_QUERY", "';'"),
        ("SELECT Id FROM Order OFFSET 2001", "NUMBER_OUTSIDE_VALID_RANGE", "2000"),
        ("SELECT Id FROM Order WHERE Status = 5", "INVALID_FIELD", "enclosed in quotes"),
        ("SELECT Id FROM Order WHERE TotalAmount = '5'", "INVALID_FIELD", "should not be enclosed in quotes"),
        ("SELECT Id FROM Order WHERE EffectiveDate = '2026-01-01'", "INVALID_FIELD", "date"),
        ("SELECT Id FROM Order WHERE Id = 'nonsense'", "INVALID_QUERY_FILTER_OPERATOR", "invalid ID field: nonsense"),
        ("SELECT Account.Nothing FROM Order", "INVALID_FIELD", "No such column 'Nothing' on entity 'Account'"),
        ("SELECT Nothing.Name FROM Order", "INVALID_FIELD", "Didn't understand relationship 'Nothing'"),
        ("SELECT (SELECT Id FROM Nothings) FROM Order", "INVALID_TYPE", "Didn't understand relationship 'Nothings'"),
        ("SELECT Id FROM Nothing", "INVALID_TYPE", "sObject type 'Nothing' is not supported"),
    ],
)
def test_refused(records: Records, text: str, code: str, words: str) -> None:
    with pytest.raises(SfError) as caught:
        run(records, text)
    assert caught.value.code == code
    assert words in caught.value.message


def test_ids() -> None:
    assert ids.to_18("001D000000K0fXO") == "001D000000K0fXOIAZ"
    assert ids.to_18("001D000000K0fXOIAZ") == ids.to_18("001d000000k0fxoIAZ") == "001D000000K0fXOIAZ"
    assert ids.to_18("001D000000K0fX") is ids.to_18("001D000000K0fXOIA") is ids.to_18(None) is None
    made = {ids.make("801", number) for number in range(1, 5000)}
    assert len(made) == 4999
    assert all(ids.to_18(key[:15]) == key for key in made)
