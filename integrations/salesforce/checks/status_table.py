"""Maps each branch of the status table (OrderProvisioningAnswer.cls) to the Apex test that covers it.

`python -m integrations.salesforce.checks.status_table` prints the table as README.md has it. A branch without a test,
or a test that asserts another outcome than the class decides, is an error. Nothing is run in Salesforce: what a branch
decides is found by carrying the class out, and what a test asserts by reading it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from integrations.salesforce.checks.apex import Class, Method
from integrations.salesforce.checks.platform import PROJECT, Org
from integrations.salesforce.checks.runtime import read_classes

#: What each helper of the test class asserts.
ASSERTS = {"assertlefttotheportal": "ACCEPTED", "assertfailed": "REFUSED", "assertsentagain": "UNAVAILABLE"}
WORDS = {
    "ACCEPTED": "accepted: the portal writes the outcome",
    "REFUSED": "Failed, unless something else has happened to the order",
    "UNAVAILABLE": "sent again later with the same key",
}


@dataclass(frozen=True)
class Test:
    """A test method: the statuses and failures it has the portal give, and the outcomes it asserts."""

    name: str
    statuses: frozenset[int]
    bodies: tuple[str, ...]
    failures: tuple[str, ...]
    asserts: frozenset[str]


@dataclass(frozen=True)
class Line:
    """One line of the table."""

    answer: str
    outcome: str
    tests: tuple[str, ...]


def table(project: Path = PROJECT) -> tuple[list[Line], list[str]]:
    """The lines, and what is missing or contradicts itself."""
    classes = project / "force-app" / "main" / "default" / "classes"
    runtime = Org("").runtime(classes / "OrderProvisioningAnswer.cls")
    tests = [*_tests(read_classes(classes / "OrderProvisioningJobTest.cls")["orderprovisioningjobtest"])]
    named, others = _branches(runtime.classes["orderprovisioninganswer"])
    lines, faults = [], []

    def add(answer: str, outcome: str, covering: list[Test]) -> None:
        lines.append(Line(answer, outcome, tuple(test.name for test in covering)))
        if not covering:
            faults.append(f"no test has the portal answer {answer}")
        for test in covering:
            if test.asserts != {outcome}:
                said = ", ".join(sorted(test.asserts)) or "nothing"
                faults.append(f"{test.name}: the class decides {outcome} for {answer}, the test asserts {said}")

    def status(number: int, body: str) -> str:
        return _kind(runtime.call("OrderProvisioningAnswer", "read", number, body, None))

    for number in named:
        covering = [each for each in tests if number in each.statuses and not _elsewhere(each)]
        add(str(number), status(number, '{"status":"Provisioned"}'), covering)
    foreign = [each for each in tests if each.statuses & {200, 202} and _elsewhere(each)]
    add("200 without the portal's JSON", status(200, "<html>"), foreign)
    if others:
        unnamed = [each for each in tests if each.statuses and not each.statuses & set(named)]
        for words, numbers in (("every other 5xx", range(500, 600)), ("every other status", range(100, 500))):
            covering = [each for each in unnamed if each.statuses <= set(numbers)]
            example = min((min(each.statuses) for each in covering), default=min(numbers))
            add(words, status(example, "{}"), covering)
    for words, example in (("no answer, time out", "Read timed out"), ("credential not accessible", "credential(s)")):
        kind = _kind(runtime.call("OrderProvisioningAnswer", "ofFailure", example))
        covering = [
            each
            for each in tests
            if any(
                _kind(runtime.call("OrderProvisioningAnswer", "ofFailure", message)) == kind
                for message in each.failures
            )
            and each.asserts & set(WORDS)
        ]
        add(words, kind, covering)
    return lines, faults


def as_markdown(lines: list[Line]) -> str:
    """The table as README.md shows it."""
    rows = [f"| {line.answer} | {WORDS[line.outcome]} | {', '.join(f'`{t}`' for t in line.tests)} |" for line in lines]
    head = "| the portal answers | the order is | test in `OrderProvisioningJobTest` |"
    return "\n".join([head, "| --- | --- | --- |", *rows])


def _kind(answer: Any) -> str:
    return str(answer.fields["kind"].name)


def _branches(answer: Class) -> tuple[list[int], bool]:
    """The statuses named by `switch on status`, and whether it has a `when else`."""
    switch = next(node for node in _walk(answer.methods["read"][0].body) if node[0] == "switch")
    named: list[int] = []
    others = False
    for choices, _ in switch[2]:
        if choices is None:
            others = True
        else:
            named += [int(choice[1]) for choice in choices]
    return named, others


def _elsewhere(test: Test) -> bool:
    """It has somebody else than the portal answer with 200."""
    return any(body.startswith("<") for body in test.bodies) and bool(test.statuses & {200, 202})


def _tests(of: Class) -> Iterator[Test]:
    for methods in of.methods.values():
        for method in methods:
            if "istest" in method.annotations:
                yield _test(method)


def _test(method: Method) -> Test:
    statuses, bodies, failures, asserts = set(), [], [], set()
    answers = 0
    for node in _walk(method.body):
        if node[0] != "call":
            continue
        name, arguments = node[2].lower(), node[3]
        if name == "answer":
            answers += 1
            statuses.add(int(arguments[0][1]))
            bodies += [argument[1] for argument in arguments[1:] if argument[0] == "literal"]
        elif name == "fails":
            failures.append(str(arguments[0][1]))
        elif name in ASSERTS:
            asserts.add(ASSERTS[name])
    if answers > 1 or not asserts:  # several orders, or another question than what an answer means
        statuses, failures = set(), []
    return Test(method.name, frozenset(statuses), tuple(bodies), tuple(failures), frozenset(asserts))


def _walk(node: Any) -> Iterator[Any]:
    """Every tuple in a tree of statements and expressions."""
    if isinstance(node, tuple) and node and isinstance(node[0], str):
        yield node
    if isinstance(node, tuple | list):
        for each in node:
            yield from _walk(each)


def main() -> int:
    """Print the table; 1 when something is missing."""
    lines, faults = table()
    print(as_markdown(lines))
    for fault in faults:
        print(f"error: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
