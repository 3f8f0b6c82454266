"""`make audit` finds weaknesses, and never takes what it couldn't ask about for an all-clear."""

from __future__ import annotations

import json
import sys

from tests.audit import FILES, ask, pins, read, sbom

WEAK = {
    "name": "Flask",
    "version": "0.1",
    "vulns": [{"id": "PYSEC-2018-66", "fix_versions": ["0.12.3"], "description": "…"}],
}


def test_a_weakness_is_named_with_the_version_that_mends_it() -> None:
    audit = read(
        [WEAK, {"name": "typing_extensions", "version": "4", "vulns": []}], {"flask": "0.1", "typing-extensions": "4"}
    )
    assert audit.weaknesses == ["flask 0.1: PYSEC-2018-66, mended in 0.12.3"]
    assert (audit.asked, audit.not_asked) == (2, {})


def test_what_was_skipped_or_left_out_was_not_asked_about() -> None:
    """pip-audit itself says "No known vulnerabilities found" and ends with 0 where it reaches no database."""
    skipped = {"name": "flask", "skip_reason": "Dependency not found on PyPI and could not be audited: flask (0.1)"}
    audit = read([skipped], {"flask": "0.1", "rq": "1"})
    assert audit.asked == 0
    assert audit.not_asked == {"flask": skipped["skip_reason"], "rq": "pip-audit left it out"}


def test_a_pip_audit_that_fails_says_why() -> None:
    fails = (sys.executable, "-c", "import sys; sys.exit('ERROR: no route to host')")
    assert ask({"flask": "0.1"}, fails).not_asked == {"flask": "ERROR: no route to host"}


def test_what_we_send_is_what_pip_audit_reads() -> None:
    """The real program, which needs no network for what is no version at all."""
    audit = ask({"flask": "not-a-version"})
    assert audit.asked == 0
    assert list(audit.not_asked) == ["flask"]


def test_every_pinned_package_is_in_it() -> None:
    packages = pins(*FILES)
    assert len(packages) > 100
    assert not [version for version in packages.values() if ";" in version]
    assert {"psycopg", "flask", "pip-audit", "aiosmtpd"} <= set(packages)


def test_the_sbom_names_each_package_once_with_its_licence() -> None:
    packages = pins("requirements.txt")
    told = json.loads(sbom(packages))
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    assert {(each["name"], each["version"]) for each in told["components"]} == set(packages.items())
    assert len({each["purl"] for each in told["components"]}) == len(packages)
    flask = next(each for each in told["components"] if each["name"] == "flask")
    assert flask["purl"] == f"pkg:pypi/flask@{packages['flask']}"
    assert flask["licenses"]
