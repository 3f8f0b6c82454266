"""The pretend org satisfies jsforce, the JavaScript client that Salesforce's own tools are built on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.sandbox.conftest import Keys, Sides, assertion

Drive = Callable[..., dict[str, Any]]


def test_jsforce(drive: Drive, sides: Sides, keys: Keys, refusals: Callable[[dict[str, Any]], list[str]]) -> None:
    ids = sides.ids
    sides.org.settings(query_batch_size=3)
    told = drive(
        "jsforce.cjs",
        url=sides.org.url,
        assertion=assertion(keys),
        account=ids["account:ada"],
        pricebook=ids["pricebook"],
        entry=ids["entry:starter"],
    )
    assert len(told) >= 30, told
    assert refusals(told) == ["search", "wrongField", "wrongValue"], told
    assert told["search"]["refused"] == "NOT_FOUND"
    assert told["wrongField"]["refused"] == "INVALID_FIELD"
    assert told["wrongValue"]["refused"] == "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST"

    user = sides.org.state("User")["User"][0]
    assert (told["identity"]["user_id"], told["identity"]["username"]) == (user["Id"], user["Username"])
    assert {"Order", "OrderItem"} <= set(told["describeGlobal"])
    assert "Portal_Reference__c" in told["describe"]
    key = told["create"]["id"]
    assert told["retrieve"]["Name"] == "From jsforce"
    assert [each["success"] for each in told["createMany"]] == [True, False]
    assert [each["Id"] for each in told["retrieveMany"]] == [key, ids["account:ada"]]
    assert [row["Name"] for row in told["query"]["records"]] == ["From jsforce", "One"]
    assert [row["Id"] for row in told["find"]] == [key]
    assert told["findOne"]["Id"] == told["createMany"][0]["id"]
    assert told["count"] == 2
    assert told["include"][0]["Contacts"]["records"][0]["Email"] == "ada@lovelace.example"
    assert len(told["autoFetch"]) == len(set(told["autoFetch"])) > 3, "every page was fetched"
    assert [told[name]["created"] for name in ("upsertNew", "upsertOld")] == [True, False]
    assert told["upsertMany"][0]["id"] == told["upsertNew"]["id"]
    parts = told["composite"]["compositeResponse"]
    assert [each["httpStatusCode"] for each in parts] == [204, 200]
    assert parts[1]["body"]["Provisioning_Status__c"] == "Activating"
    assert key in told["updated"]["ids"]
    assert told["deleted"]["deletedRecords"][-1]["id"]
    assert {each["id"] for each in told["deleted"]["deletedRecords"]} >= {key, told["createMany"][0]["id"]}
    assert [each["success"] for each in told["destroyMany"]] == [True, False]
    assert {row["Id"] for row in told["queryAll"]["records"]} >= {key}
    assert len(told["recent"]) == 2
    assert len(told["recentOfAll"]) == 3
    assert set(told["root"]) == {"composite", "identity", "limits", "query", "queryAll", "recent", "sobjects"}
    assert all(told[f"root:{name}"] for name in told["root"] if name != "composite")
    assert sides.org.journal(action="revoke")[-1]["status"] == 200
