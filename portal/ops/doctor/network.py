"""Whether the settings about addresses protect what they are meant to protect."""

from __future__ import annotations

from urllib.parse import urlsplit

from portal.clients.http import is_loopback
from portal.ops.doctor.model import Check, Context, Finding, error, good, warning
from portal.ops.doctor.settings import SOUND
from portal.settings.kinds import IpNetwork

#: Shorter prefixes than these aren't somebody's proxies or network, but a good part of the world.
WIDEST = {4: 8, 6: 16}


def _too_wide(networks: tuple[IpNetwork, ...]) -> list[str]:
    return [str(each) for each in networks if each.prefixlen < WIDEST[each.version]]


def _proxies(context: Context) -> Finding:
    wide = _too_wide(context.settings.trusted_proxies)
    if wide:
        return error(f"TRUSTED_PROXIES has {', '.join(wide)}: whoever calls from there may name any address as theirs")
    behind_proxy = context.settings.production and context.settings.portal_base_url.startswith("https://")
    if behind_proxy and not context.settings.trusted_proxies:
        return warning(
            "TRUSTED_PROXIES is empty, although something in front of the portal ends https: every caller seems to "
            "come from there, so that allowlists and limits take all callers for one"
        )
    return good()


def _allowlists(context: Context) -> Finding:
    settings = context.settings
    lists = {
        "SF_WEBHOOK_IP_ALLOWLIST": settings.sf_webhook_ip_allowlist,
        "WHMCS_WEBHOOK_IP_ALLOWLIST": settings.whmcs_webhook_ip_allowlist,
        "METRICS_ALLOWLIST": settings.metrics_allowlist,
    }
    for name, networks in lists.items():
        if wide := _too_wide(networks):
            return error(
                f"{name} has {', '.join(wide)}: that lets nearly everybody in; leave it empty if that is meant"
            )
    salesforce = settings.sf_webhook_ip_allowlist
    if settings.production and salesforce and all(each.is_private for each in salesforce):
        return warning("SF_WEBHOOK_IP_ALLOWLIST has private addresses only: Salesforce calls from public ones")
    return good()


def _encrypted(context: Context) -> Finding:
    settings = context.settings
    plain = [
        name
        for name, url in (("SF_LOGIN_URL", settings.sf_login_url), ("WHMCS_API_URL", settings.whmcs_api_url))
        if urlsplit(url).scheme != "https" and not is_loopback(urlsplit(url).hostname or "")
    ]
    if plain:
        return error(f"{' and '.join(plain)} isn't https: credentials would travel readable for everybody on the way")
    return good()


CHECKS = (
    Check(
        id="network.proxies",
        description="only proxies are believed about who is calling",
        run=_proxies,
        cure="Set TRUSTED_PROXIES to the addresses of your own proxies, and no others",
        needs=SOUND,
    ),
    Check(
        id="network.allowlists",
        description="the allowlists let in whom they are meant for",
        run=_allowlists,
        cure="Put into each allowlist the addresses of those who call, as narrow as they are known",
        needs=SOUND,
    ),
    Check(
        id="network.encrypted",
        description="credentials leave this machine encrypted",
        run=_encrypted,
        cure="Use the https address",
        needs=SOUND,
    ),
)
