"""Lists in statements: one parameter each, so that a statement is made once and its text doesn't grow with them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement


class Among(FunctionElement[bool]):
    """Whether a column's text is one of those in the parameter of that name: a list, which is sent as JSON."""

    inherit_cache = True  # no Boolean by its type: SQLAlchemy would write "… = 1" for SQLite, which takes no index then

    def __init__(self, column: sa.ColumnElement[str], parameter: str) -> None:
        super().__init__(column, sa.bindparam(parameter, type_=sa.JSON))


@compiles(Among, "sqlite")
def _sqlite(element: Among, compiler: SQLCompiler, **options: Any) -> str:
    column, texts = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({texts}))"


@compiles(Among, "postgresql")
def _postgresql(element: Among, compiler: SQLCompiler, **options: Any) -> str:
    column, texts = (compiler.process(each, **options) for each in element.clauses)
    return f"{column} = ANY (ARRAY(SELECT json_array_elements_text({texts})))"
