"""gunicorn's logs in the format of all others, without the tokens of mailed links: whoever has one is let in.

Sign-in links and order links keep their first part, which says what was asked for; the rest isn't written anywhere: not
into the access log, whatever its format, nor into the error log's sentences about malformed requests.
"""

from __future__ import annotations

import logging
import re
from typing import Any, Final

from gunicorn.glogging import Logger as GunicornLogger

from portal.logs import formatter
from portal.web.signing import ORDER_PATH, SIGN_IN_PATH

_LINK = re.compile(f"({re.escape(SIGN_IN_PATH)}|{re.escape(ORDER_PATH)})[^\\s\"'<>]+")
HIDDEN: Final = "[token]"


def without_tokens(text: str) -> str:
    """`text` with whatever follows the path of a mailed link left out."""
    return _LINK.sub(rf"\1{HIDDEN}", text)


class Logger(GunicornLogger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own, with the tokens left out."""

    def setup(self, cfg: Any) -> None:
        """Every line is formatted as the portal's own, and the error log's go through the filter, too."""
        super().setup(cfg)
        for each in (self.error_log, self.access_log):
            for handler in each.handlers:
                if isinstance(handler, logging.StreamHandler):
                    handler.setFormatter(formatter(handler.stream))
        if not any(isinstance(each, _WithoutTokens) for each in self.error_log.filters):
            self.error_log.addFilter(_WithoutTokens())

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> dict[str, Any]:
        """What a format may name: method, path, address bar's words, each header."""
        atoms: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        return {name: without_tokens(value) if isinstance(value, str) else value for name, value in atoms.items()}


class _WithoutTokens(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        said = record.getMessage()
        hidden = without_tokens(said)
        if hidden != said:
            record.msg, record.args = hidden, ()
        return True
