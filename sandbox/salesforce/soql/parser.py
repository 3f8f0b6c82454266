"""SELECT … FROM …: recursive descent over the tokens; names are checked against the schema while parsing."""

from __future__ import annotations

from sandbox.salesforce.errors import SfError
from sandbox.salesforce.schema import SObject
from sandbox.salesforce.soql.conditions import HELP, Conditions
from sandbox.salesforce.soql.query import Path, Query


class Parser(Conditions):
    """Recursive descent over the tokens; names are checked against the schema while parsing."""

    def parse(self) -> Query:
        """A whole query."""
        query = self.query(None)
        kind, text, position = self.peek()
        if kind != "end":
            raise self.malformed(f"unexpected token: '{text}'", position)
        return query

    def query(self, parent: SObject | None) -> Query:
        """SELECT … ; `parent` is set for a child subquery, whose FROM names a child relationship."""
        if not self.word("SELECT"):
            _, text, position = self.peek()
            raise self.malformed(f"unexpected token: '{text}'", position)
        start = self.at
        self._skip_select()
        self.expect("FROM")
        from_name, position = self.name()
        if parent is not None:
            match = next((value for key, value in parent.children.items() if key.lower() == from_name.lower()), None)
            if match is None:
                raise SfError(
                    "INVALID_TYPE",
                    self.placed(
                        f"Didn't understand relationship '{from_name}' in FROM part of query call. If you are "
                        "attempting to use a custom relationship, be sure to append the '__r' after the custom "
                        "relationship name. Please reference your WSDL or the describe call for the appropriate names.",
                        position,
                    ),
                )
            target = self.source.schema[match[0]]
        else:
            found = next((value for key, value in self.source.schema.items() if key.lower() == from_name.lower()), None)
            if found is None:
                raise SfError(
                    "INVALID_TYPE",
                    self.placed(
                        f"sObject type '{from_name}' is not supported. "
                        f"{HELP.replace('custom field', 'custom object', 1)}",
                        position,
                    ),
                )
            target = found
        kind, text, _ = self.peek()
        if kind == "word" and text.upper() not in (
            "WHERE",
            "ORDER",
            "LIMIT",
            "OFFSET",
            "USING",
            "WITH",
            "GROUP",
            "HAVING",
            "FOR",
            "ALL",
        ):
            self.at += 1
        after_from, self.at = self.at, start
        query = Query(target)
        self._select(query, parent is not None)
        self.at = after_from
        if self.word("WHERE"):
            query.where = self.any_of(query, top=True)
        if self.word("ORDER"):
            self.expect("BY")
            while True:
                path_text, position = self.name()
                path, _ = self.resolve(query.object, path_text, position)
                descending = not self.word("ASC") and self.word("DESC")
                nulls_last = False
                if self.word("NULLS"):
                    nulls_last = self.word("LAST")
                    if not nulls_last:
                        self.expect("FIRST")
                query.order_by.append((path, descending, nulls_last))
                if not self.sign(","):
                    break
        if self.word("LIMIT"):
            query.limit = self.whole_number()
        if self.word("OFFSET"):
            query.offset = self.whole_number()
            if query.offset > 2000:
                raise SfError("NUMBER_OUTSIDE_VALID_RANGE", "Maximum SOQL offset allowed is 2000")
        return query

    def _skip_select(self) -> None:
        depth = 0
        while True:
            kind, text, position = self.peek()
            if kind == "end":
                raise self.malformed("unexpected token: <EOF>", position)
            if depth == 0 and kind == "word" and text.upper() == "FROM":
                return
            depth += {"(": 1, ")": -1}.get(text, 0) if kind == "sign" else 0
            self.at += 1

    def _select(self, query: Query, is_child: bool) -> None:
        seen: set[Path] = set()
        while True:
            if self.sign("("):
                if is_child:
                    raise self.malformed("nesting of child subqueries is not supported here", self.peek()[2])
                before = self.at
                child = self.query(query.object)
                relationship = self._from_name(before)
                query.children.append((relationship, child))
                self.expect(")")
            else:
                text, position = self.name()
                if self.peek()[1] == "(" and text.upper() in ("COUNT", "FIELDS"):
                    self._function(query, text.upper(), position)
                else:
                    path, _ = self.resolve(query.object, text, position)
                    if path in seen:
                        raise SfError("MALFORMED_QUERY", f"duplicate field selected: {text}")
                    seen.add(path)
                    query.fields.append(path)
            if not self.sign(","):
                break
        kind, text, position = self.peek()
        if not (kind == "word" and text.upper() == "FROM"):
            raise self.malformed(f"unexpected token: '{text}'", position)

    def _from_name(self, start: int) -> str:
        depth = 0
        for kind, text, _ in self.tokens[start:]:
            depth += {"(": 1, ")": -1}.get(text, 0) if kind == "sign" else 0
            if depth == 0 and kind == "word" and text.upper() == "FROM":
                break
            start += 1
        wanted = self.tokens[start + 1][1].lower()
        return next(key for each in self.source.schema.values() for key in each.children if key.lower() == wanted)

    def _function(self, query: Query, function: str, position: int) -> None:
        self.expect("(")
        if function == "FIELDS":
            which, _ = self.name()
            self.expect(")")
            if which.upper() not in ("ALL", "STANDARD", "CUSTOM"):
                raise self.malformed(f"unexpected token: '{which}'", position)
            query.fields.extend(
                (each,)
                for each in query.object.fields
                if which.upper() == "ALL" or each.endswith("__c") == (which.upper() == "CUSTOM")
            )
            return
        if self.sign(")"):
            query.count_rows = True
            return
        text, at = self.name()
        path, _ = self.resolve(query.object, text, at)
        self.expect(")")
        alias = None
        kind, text, _ = self.peek()
        if kind == "word" and text.upper() != "FROM":
            alias, _ = self.name()
        query.counts.append((".".join(path), alias))
