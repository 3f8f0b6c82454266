"""States of an org in which writes are refused although queries work: full storage, a failing trigger, a lost right.

Settings: `refused_writes` maps a record id, `create:Order`, `update:Order`, `Order` or `*` to an error code (or to
{"code", "message"}); `failing_triggers` maps an object to what its trigger throws; `storage_full`. They hold for single
writes, collections, trees and composites alike, and for the org's own Apex.
"""

from __future__ import annotations

from typing import Any

from sandbox.salesforce.errors import SfError

UNEDITABLE = (
    "Unable to create/update fields: {}. Please check the security settings of this field and verify that it is "
    "read/write for your profile or permission set."
)
CPU_LIMIT = "System.LimitException: Apex CPU time limit exceeded"

#: What the org says with a code, where a test names none.
MESSAGES = {
    "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY": (
        f"OrderTrigger: execution of BeforeUpdate\n\ncaused by: {CPU_LIMIT}\n\n(): ()"
    ),
    "ENTITY_IS_LOCKED": "the entity is locked for editing",
    "FIELD_CUSTOM_VALIDATION_EXCEPTION": "The period is closed: orders can't be changed.",
    "INSUFFICIENT_ACCESS_OR_READONLY": "insufficient access rights on object id",
    "INVALID_FIELD_FOR_INSERT_UPDATE": UNEDITABLE.format("Provisioning_Status__c"),
    "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST": (
        "Provisioning Status: bad value for restricted picklist field: Activating"
    ),
    "STORAGE_LIMIT_EXCEEDED": "storage limit exceeded",
    "UNABLE_TO_LOCK_ROW": "unable to obtain exclusive access to this record or 1 records: 801000000000000AAA",
}


#: Rights of the API user: the org's own Apex, in system mode, needs none.
OF_THE_USER = ("INSUFFICIENT_ACCESS_OR_READONLY", "INVALID_FIELD_FOR_INSERT_UPDATE")


def refuse_write(
    settings: dict[str, Any], operation: str, name: str, key: str | None, *, as_apex: bool = False
) -> None:
    """Raises SfError where the org's state refuses to `create`, `update` or `delete` a record of an object."""
    refused = settings.get("refused_writes") or {}
    for subject in (key, f"{operation}:{name}", name, "*"):
        if subject is not None and subject in refused:
            wanted = refused[subject]
            wanted = wanted if isinstance(wanted, dict) else {"code": wanted}
            code = str(wanted["code"])
            if as_apex and code in OF_THE_USER:
                continue
            raise SfError(code, str(wanted.get("message") or MESSAGES.get(code, code)), list(wanted.get("fields", [])))
    if settings.get("storage_full") and operation != "delete":
        raise SfError("STORAGE_LIMIT_EXCEEDED", MESSAGES["STORAGE_LIMIT_EXCEEDED"], [])
    thrown = (settings.get("failing_triggers") or {}).get(name)
    if thrown:
        when = {"create": "BeforeInsert", "update": "BeforeUpdate", "delete": "BeforeDelete"}[operation]
        thrown = CPU_LIMIT if thrown is True else thrown
        message = f"{name}Trigger: execution of {when}\n\ncaused by: {thrown}\n\n(): ()"
        raise SfError("CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", message, [])
