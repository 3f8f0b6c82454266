"""Every setting that is declared is read somewhere in the product, but for those whose issue is still to come."""

from __future__ import annotations

import ast
from dataclasses import fields

from bench.house import PRODUCT, modules, tree_of
from portal.settings import Settings

#: Declared, documented, and waiting for what will read them.
UNREAD: set[str] = set()


def read_in(tree: ast.Module, *, own_file: bool) -> set[str]:
    """The settings a module reads: `….settings.NAME`, and in their own file `self.NAME`."""
    return {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Load)
        and (ast.unparse(node.value).endswith("settings") or (own_file and ast.unparse(node.value) == "self"))
    }


def test_only_those_that_wait_for_their_issue_are_unread() -> None:
    read = {
        name
        for module, path in modules(*PRODUCT).items()
        for name in read_in(tree_of(path), own_file=module == "portal.settings")
    }
    declared = {each.name for each in fields(Settings)}
    assert {name.upper() for name in declared - read} == UNREAD


def test_who_reads_is_recognised() -> None:
    code = "a = services.settings.ops_emails\nb = settings.sf_username\nself.whmcs_api_url\nsettings.retention_days = 1"
    assert read_in(ast.parse(code), own_file=False) == {"ops_emails", "sf_username"}
