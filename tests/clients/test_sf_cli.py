"""The pretend org satisfies Salesforce's own command line, `sf`: sign-in, queries, records, files."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization

from sandbox.control import SalesforceSandbox
from tests.sandbox.conftest import CLIENT_ID, USERNAME, Keys, Sides

Sf = Callable[..., Any]


@pytest.fixture
def sf(clients: Path, node: str, cli_home: Path, sides: Sides, keys: Keys) -> Sf:
    """Runs a command of the signed-in CLI and answers its `result`; fails with its words where it fails."""
    org = sides.org
    # The CLI's first audience is the address it signs in at; the next ones it tries are Salesforce's own hosts.
    org.settings(audience=org.url)
    key = cli_home / "server.key"
    key.write_bytes(
        keys.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    quiet = ("SF_DISABLE_TELEMETRY", "SF_AUTOUPDATE_DISABLE", "SF_SKIP_NEW_VERSION_CHECK", "SF_CONTAINER_MODE")
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(cli_home),
        "SF_USE_GENERIC_UNIX_KEYCHAIN": "true",
        "SF_HIDE_RELEASE_NOTES": "true",
        "NODE_NO_WARNINGS": "1",
        **dict.fromkeys(quiet, "true"),
    }

    def run(*arguments: str, fails: bool = False) -> Any:
        command = [node, str(clients / "@salesforce" / "cli" / "bin" / "run.js"), *arguments, "--json"]
        done = subprocess.run(
            command, env=environment, cwd=cli_home, capture_output=True, text=True, timeout=120, check=False
        )
        told = json.loads(done.stdout)
        assert (told["status"] != 0) is fails, told
        return told["message"] if fails else told["result"]

    run(
        *("org", "login", "jwt", "--username", USERNAME, "--jwt-key-file", str(key)),
        *("--client-id", CLIENT_ID, "--instance-url", org.url, "--set-default"),
    )
    return run


def test_signing_in_and_looking_around(sf: Sf, org: SalesforceSandbox) -> None:
    refused = [each["outcome"] for each in org.journal(action="token") if each["status"] != 200]
    assert not refused, "the CLI's `exp` is in milliseconds"
    shown = sf("org", "display")
    assert (shown["username"], shown["connectedStatus"], shown["instanceUrl"]) == (USERNAME, "Connected", org.url)
    assert [each["username"] for each in sf("org", "list")["sandboxes"]] == [USERNAME]
    assert sf("org", "display", "user")["profileName"] == "Minimum Access - API Only Integrations"
    limits = {each["name"]: each for each in sf("org", "list", "limits")}
    assert limits["DailyApiRequests"]["remaining"] < limits["DailyApiRequests"]["max"]
    assert "OrderItem" in sf("sobject", "list", "--sobject", "all")
    fields = {each["name"]: each for each in sf("sobject", "describe", "--sobject", "Order")["fields"]}
    assert fields["Provisioning_Status__c"]["restrictedPicklist"] is True
    (count,) = sf("org", "list", "sobject", "record-counts", "--sobject", "Product2")
    assert count["count"] == len(org.state("Product2")["Product2"])
    assert sf("api", "request", "rest", "/services/data/v67.0/limits")["statusCode"] == 200


def test_queries(sf: Sf, sides: Sides) -> None:
    soql = "SELECT Id, Name, Owner.Name, (SELECT Email FROM Contacts) FROM Account WHERE Name = 'Lovelace Analytics'"
    (row,) = sf("data", "query", "--query", soql)["records"]
    assert row["Id"] == sides.ids["account:ada"]
    assert row["Owner"] is None
    assert row["Contacts"]["records"][0]["Email"] == "ada@lovelace.example"
    assert sf("data", "query", "--query", "SELECT COUNT() FROM Pricebook2")["totalSize"] == 2
    counted = sf("data", "query", "--query", "SELECT COUNT(Id) books FROM Pricebook2", "--result-format", "csv")
    assert counted["records"][0]["books"] == 2
    sides.org.settings(query_batch_size=3)
    assert len(sf("data", "query", "--query", "SELECT Id FROM Product2")["records"]) > 3, "every page"
    assert "No such column 'Nothing__c'" in sf("data", "query", "--query", "SELECT Nothing__c FROM Order", fails=True)


def test_records_and_files(sf: Sf, cli_home: Path, sides: Sides) -> None:
    made = sf("data", "create", "record", "--sobject", "Account", "--values", "Name='Command Line' Phone=1")
    key = made["id"]
    assert sf("data", "get", "record", "--sobject", "Account", "--record-id", key)["Name"] == "Command Line"
    sf("data", "update", "record", "--sobject", "Account", "--where", "Name='Command Line'", "--values", "Phone=2")
    assert next(each for each in sides.org.state("Account")["Account"] if each["Id"] == key)["Phone"] == "2"
    refused = sf(
        *("data", "update", "record", "--sobject", "Account", "--record-id", key, "--values"),
        f"Name={'x' * 300}",
        fails=True,
    )
    assert "data value too large" in refused
    sf("data", "delete", "record", "--sobject", "Account", "--record-id", key)
    tree = cli_home / "tree.json"
    record = {"attributes": {"type": "Account", "referenceId": "one"}, "Name": "From a file"}
    tree.write_text(json.dumps({"records": [record]}), encoding="utf-8")
    (imported,) = sf("data", "import", "tree", "--files", str(tree))
    (out := cli_home / "out").mkdir()
    soql = "SELECT Id, Name FROM Account WHERE Name = 'From a file'"
    exported = sf("data", "export", "tree", "--query", soql, "--output-dir", str(out))
    assert imported["type"] == "Account"
    assert exported["records"][0]["Name"] == "From a file"
    assert list(out.iterdir())
