"""The package gives the portal's user what the portal's code uses, no less and no more; both use the same words.

What the code uses is read from its own SOQL and from the names in it, wherever these stand.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

from integrations.salesforce.checks.platform import PACKAGE, PROJECT, xml
from portal.clients.salesforce.fields import OPTIONAL

ROOT = Path(__file__).parents[2]
LISTED: dict[str, str] = json.loads((PROJECT / "data" / "portal-fields.json").read_text(encoding="utf-8"))
CHILDREN = {"OrderItems": "OrderItem"}
OBJECTS = frozenset({"Account", "Contact", "Order", "OrderItem", "Pricebook2", "PricebookEntry", "Product2"})
_WORD = re.compile(r"[A-Za-z][\w.]*")
_KEYWORDS = frozenset("AND OR NOT NULL TRUE FALSE ASC DESC IN LIKE LIMIT ORDER BY WHERE FROM SELECT".split())  # noqa: SIM905


# --- what the code says ----------------------------------------------------------------------------------------


def texts() -> Iterator[str]:
    """Every text in portal/, with texts that are put together from others put together; unknown parts become `?`."""
    for path in sorted((ROOT / "portal").rglob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        known = {
            target.id: node.value
            for node in tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }

        def folded(node: ast.AST, known: dict[str, ast.expr] = known) -> str:
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                return node.value
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
                return folded(node.left) + folded(node.right)
            if isinstance(node, ast.JoinedStr):
                return "".join(folded(part) for part in node.values)
            if isinstance(node, ast.Name) and node.id in known:
                return folded(known[node.id])
            return "?"

        for node in ast.walk(tree):
            if isinstance(node, ast.Constant | ast.BinOp | ast.JoinedStr):
                yield folded(node)


def queried() -> set[str]:
    """`Object.Field` of everything the portal's SOQL selects, filters and sorts by."""
    found: set[str] = set()
    for text in texts():
        if text.startswith("SELECT ") and " FROM " in text:
            found |= {name for name in fields_of(text) if name.partition(".")[0] in OBJECTS}  # not the ledger's SQL
    # Asked for only where an org has them: they are put into a query by name.
    return found | {f"{name}.{each}" for name, names in OPTIONAL.items() for each in names if each.endswith("__c")}


def fields_of(soql: str, child_of: str | None = None) -> set[str]:
    found: set[str] = set()
    for inner in re.findall(r"\((SELECT [^()]*)\)", soql):
        found |= fields_of(inner, "child")
    outer = re.sub(r"\(SELECT [^()]*\)", "", soql)
    if " FROM " not in outer:
        return found  # the beginning of a query, seen again where it is whole
    selected, _, rest = outer.removeprefix("SELECT ").partition(" FROM ")
    source, _, conditions = rest.partition(" ")
    source = CHILDREN.get(source, source)
    conditions = re.sub(r"'[^']*'|\{[^}]*\}|\?|\b\d[\w:.-]*", " ", conditions)
    for name in _WORD.findall(selected) + _WORD.findall(conditions):
        if name.upper() not in _KEYWORDS:
            *path, field = name.split(".")
            found.add(f"{path[-1] if path else source}.{field}")
    return found


# --- what the package gives --------------------------------------------------------------------------------------


def granted(permission_set: str) -> dict[str, bool]:
    root = xml(PACKAGE / "permissionsets" / f"{permission_set}.permissionset-meta.xml")
    return {str(each.findtext("field")): each.findtext("editable") == "true" for each in root.iter("fieldPermissions")}


def custom_fields() -> set[str]:
    return {
        f"{path.parts[-3]}.{path.name.removesuffix('.field-meta.xml')}"
        for path in PACKAGE.glob("objects/*/fields/*")
        if not path.parts[-3].startswith("Portal_")
    }


def test_the_soql_is_found_at_all() -> None:
    assert {"Order.WHMCS_Order_ID__c", "OrderItem.Quantity", "Product2.Billing_Cycle__c", "Contact.Email"} <= queried()
    assert fields_of("SELECT Id, (SELECT Quantity FROM OrderItems) FROM Order WHERE Name = {} LIMIT 1") == {
        "Order.Id",
        "Order.Name",
        "OrderItem.Quantity",
    }


def test_every_field_the_portal_asks_for_is_listed_and_no_other() -> None:
    written = {name for name, access in LISTED.items() if access == "edit"}
    assert queried() - set(LISTED) == set(), "data/portal-fields.json, from which bin/install.mjs grants access"
    assert set(LISTED) - queried() - written == set()


def test_every_custom_field_the_portal_names_is_there() -> None:
    named = {name for text in texts() for name in re.findall(r"\b[A-Z]\w*__c\b", text)}
    there = {name.partition(".")[2] for name in custom_fields()}
    assert named
    assert named - there == set()
    assert there - named == {"Provisioning_Request_Key__c"}


def test_the_integration_user_may_what_the_list_says() -> None:
    given = granted("Portal_Integration")
    for name in custom_fields() & set(LISTED):
        assert given.get(name) is (LISTED[name] == "edit"), name
    assert set(given) <= set(LISTED) | {"Account.BillingAddress"}


def test_the_statuses_are_the_portals() -> None:
    root = xml(PACKAGE / "objects" / "Order" / "fields" / "Provisioning_Status__c.field-meta.xml")
    values = {each.findtext("fullName") for each in root.iter("value")}
    assert root.findtext("valueSet/restricted") == "true"
    # With the package's own Requested, what a customer's status can be is what Salesforce's field can hold.
    model = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "portal").rglob("model.py"))
    statuses = re.search(r"class CustomerStatus\(StrEnum\):(.*?)\n\n\n", model, re.DOTALL)
    assert statuses
    assert values == {*re.findall(r'= "([^"]+)"', statuses[1]), "Requested"}


def test_every_code_of_the_runbook_has_a_hint() -> None:
    runbook = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[A-Z_`, ]+)", runbook, re.MULTILINE)
    codes = {code for row in rows for code in re.findall("[A-Z_]{6,}", row)}
    hints = (PACKAGE / "lwc" / "provisioningStatus" / "hints.js").read_text(encoding="utf-8")
    assert "PAYMENT_METHOD_MISSING" in codes
    assert {code for code in codes if f"    {code}:" not in hints} == set()
