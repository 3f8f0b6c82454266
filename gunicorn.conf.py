"""How gunicorn serves the portal: threads, because webhook requests wait; nothing opened before the fork.

WEB_CONCURRENCY processes of WEB_THREADS threads each (every waiting webhook holds one), on WEB_BIND.
"""

from __future__ import annotations

import os
import re
import resource
from typing import Any


def _count(name: str, default: int) -> int:
    """A whole number from the environment; anything else ends the start with a sentence that names it."""
    value = os.environ.get(name) or str(default)
    if not re.fullmatch(r"[1-9][0-9]{0,3}", value):
        raise SystemExit(f"{name} must be a whole number from 1 to 9999")
    return int(value)


bind = os.environ.get("WEB_BIND", "127.0.0.1:8000").split(",")
workers = _count("WEB_CONCURRENCY", 2)
threads = _count("WEB_THREADS", 16)
_SERVERS = {
    "patient": "portal.web.server.PatientWorker",  # gthread that slow senders can't starve
    "gthread": "portal.web.threads.ToldWorker",  # behind a proxy that hands on whole requests
}
_server = os.environ.get("WEB_SERVER") or "patient"
if _server not in _SERVERS:
    raise SystemExit(f"WEB_SERVER must be one of: {', '.join(_SERVERS)}")
worker_class = _SERVERS[_server]
keepalive = 15
worker_connections = 1000
# Every connection is a file: a soft limit of 1024 would be met before worker_connections is.
_soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
if _soft != resource.RLIM_INFINITY and _soft < 4096:
    _wanted = 4096 if _hard == resource.RLIM_INFINITY else min(4096, _hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (_wanted, _hard))

# A stopping worker lets every request end: those that wait for an order are woken and answered at once, and none may
# wait longer than this anyway.
try:
    graceful_timeout = int(float(os.environ.get("FULFILLMENT_WAIT_SECONDS") or 25)) + 15
except (ValueError, OverflowError):
    graceful_timeout = 40  # portal.settings is about to refuse it, in words fit for an installer
timeout = max(60, graceful_timeout + 15)

# The application is built once and shared by all workers: it opens no socket, file or thread until a request needs it.
preload_app = True

# Who a request is from is portal.web.client_address's to judge (TRUSTED_PROXIES): gunicorn itself believes no header.
forwarded_allow_ips = ""
forwarder_headers = ""
secure_scheme_headers: dict[str, str] = {}
header_map = "drop"

limit_request_line = 4094
limit_request_fields = 60
limit_request_field_size = 8190

# One line a request, without query strings, and without the tokens that links in e-mails have in their paths.
logger_class = "portal.web.access_log.Logger"
accesslog = os.environ.get("WEB_ACCESS_LOG") or None
access_log_format = "%(t)s %(m)s %(U)s %(s)s %(B)s %(M)sms"
errorlog = "-"
loglevel = os.environ.get("WEB_LOG_LEVEL", "info")
control_socket_disable = True


def when_ready(server: Any) -> None:
    """gunicorn's hook: the master is about to serve."""
    from portal.web.listening import stop_softly

    stop_softly(server)
