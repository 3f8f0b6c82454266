"""The part of SOQL that integrations use: parsed and checked like the real org's, then run over the store.

Supported: SELECT of fields, parent paths, child subqueries, COUNT(), COUNT(field), FIELDS(ALL|STANDARD|CUSTOM); WHERE
with = != <> < > <= >= LIKE, IN, NOT IN (lists and semi-joins), AND, OR, NOT, parentheses, null, text, numbers,
booleans, dates, datetimes and some date literals; ORDER BY … ASC|DESC NULLS FIRST|LAST; LIMIT; OFFSET.
"""

from sandbox.salesforce.soql.columns import column_metadata
from sandbox.salesforce.soql.parser import Parser
from sandbox.salesforce.soql.query import Query, Source, attributes, matching, path_value, render

__all__ = ["Parser", "Query", "Source", "attributes", "column_metadata", "matching", "path_value", "render"]
