"""When the certificates that orders depend on expire: the portal's own, WHMCS' and that of Salesforce's sign-in."""

from __future__ import annotations

import logging
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509

from portal.ledger import installation
from portal.services import Services

log = logging.getLogger("portal.ops.alerts")

#: Key of `portal.ledger.installation`: name of the setting → when its certificate expires, in seconds since 1970.
KEY: Final = "certificates"
_SECONDS: Final = 5.0


def look(services: Services) -> None:
    """Ask both web servers for their certificates, and read the one of SF_CERTIFICATE_PATH; keep when they expire.

    One that can't be had keeps what was known of it. Raises LedgerUnavailable.
    """
    settings = services.settings
    found: dict[str, float] = {}
    for name, url in (("PORTAL_BASE_URL", settings.portal_base_url), ("WHMCS_API_URL", settings.whmcs_api_url)):
        parts = urlsplit(url)
        if parts.scheme == "https" and parts.hostname:
            try:
                found[name] = _of_server(parts.hostname, parts.port or 443)
            except (OSError, ValueError) as error:
                log.warning("Couldn't see a certificate", extra={"setting": name, "error": type(error).__name__})
    if settings.sf_certificate_path:
        try:
            pem = settings.sf_certificate_path.read_bytes()
            found["SF_CERTIFICATE_PATH"] = x509.load_pem_x509_certificate(pem).not_valid_after_utc.timestamp()
        except (OSError, ValueError) as error:
            extra = {"setting": "SF_CERTIFICATE_PATH", "error": type(error).__name__}
            log.warning("Couldn't see a certificate", extra=extra)
    with services.ledger.write() as connection:
        known = installation.get(connection, KEY) or {}
        kept = {name: known[name] for name in ("PORTAL_BASE_URL", "WHMCS_API_URL") if name in known}
        installation.put(connection, KEY, kept | found, now=services.now())


def _of_server(host: str, port: int) -> float:
    """When the server's certificate expires; whether it is trusted is the clients' matter."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection((host, port), timeout=_SECONDS) as plain,
        context.wrap_socket(plain, server_hostname=host) as encrypted,
    ):
        der = encrypted.getpeercert(binary_form=True)
    if der is None:
        raise ValueError("no certificate")
    return x509.load_der_x509_certificate(der).not_valid_after_utc.timestamp()
