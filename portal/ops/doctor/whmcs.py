"""Whether WHMCS answers, lets the portal in, allows each action it uses, and has the gateways the settings name."""

from __future__ import annotations

from functools import partial

from portal.clients.whmcs.trial import TRIALS
from portal.domain.model import Setup, UpstreamError
from portal.ledger import installation
from portal.ops.doctor.model import Check, Context, Finding, error, good, warning
from portal.ops.doctor.settings import SOUND

#: Actions that only some settings use.
_CREATES_CLIENTS = "AddClient"


def _reachable(context: Context) -> Finding:
    """Anything WHMCS itself says shows that it is there; what it said is for the next two checks."""
    context.found["whmcs"] = None
    try:
        context.whmcs.try_action("GetPaymentMethods")
    except UpstreamError as refused:
        if refused.code != "auth":
            raise
        context.found["whmcs"] = refused
    return good()


def _address(context: Context) -> Finding:
    refused: UpstreamError | None = context.found["whmcs"]
    return error(str(refused)) if refused and "invalid ip" in str(refused).lower() else good()


def _credentials(context: Context) -> Finding:
    refused: UpstreamError | None = context.found["whmcs"]
    return error(str(refused)) if refused and refused.setup is Setup.SIDE else good()


def _action(action: str, context: Context) -> Finding:
    if action == _CREATES_CLIENTS and not context.settings.whmcs_create_clients:
        return good("not used: WHMCS_CREATE_CLIENTS is off")
    context.whmcs.try_action(action)
    return good()


def _gateways(context: Context) -> Finding:
    settings = context.settings
    there = {gateway.module for gateway in context.whmcs.payment_gateways()}
    if not there:
        return error("WHMCS has no payment gateway that is switched on")
    wanted = {
        "WHMCS_PAYMENT_METHOD": (settings.whmcs_payment_method,) if settings.whmcs_payment_method else (),
        "WHMCS_INVOICE_GATEWAYS": settings.whmcs_invoice_gateways,
    }
    faults = [
        f"{name} names {gateway}, which WHMCS doesn't have (it has {', '.join(sorted(there))})"
        for name, gateways in wanted.items()
        for gateway in gateways
        if gateway not in there
    ]
    return error("; ".join(faults)) if faults else good(", ".join(sorted(there)))


def _references(context: Context) -> Finding:
    with context.ledger.read() as connection:
        in_notes = installation.references_readable(connection)
        in_field = installation.references_in_field_readable(connection)
    if in_notes or in_field:
        return good("in the order's notes" if in_notes else "in the custom field")
    if in_notes is None:
        return good("not known yet: the first order tells")
    return warning(
        "WHMCS didn't give the last order's reference back: an AddOrder whose answer gets lost waits for a person"
    )


def _permission(action: str) -> Check:
    return Check(
        id=f"whmcs.api.{action}",
        description=f"the API role allows {action}",
        run=partial(_action, action),
        cure="Allow the action in the API role of the portal's credentials (Manage API Credentials > API Roles)",
        needs=("whmcs.credentials",),
        section="whmcs.api",
    )


CHECKS = (
    Check(
        id="whmcs.reachable",
        description="WHMCS answers at WHMCS_API_URL",
        run=_reachable,
        cure="Check WHMCS_API_URL (…/includes/api.php), its certificate, the firewall, and WHMCS' maintenance mode",
        needs=SOUND,
        retry=True,
    ),
    Check(
        id="whmcs.address",
        description="WHMCS lets this machine's address in",
        run=_address,
        cure="Add the address to WHMCS' API IP Access Restriction, or set WHMCS_API_ACCESS_KEY",
        needs=("whmcs.reachable",),
    ),
    Check(
        id="whmcs.credentials",
        description="WHMCS accepts the API credentials",
        run=_credentials,
        cure="Compare WHMCS_API_IDENTIFIER and WHMCS_API_SECRET with WHMCS' Manage API Credentials",
        needs=("whmcs.address",),
    ),
    *(_permission(action) for action in TRIALS),
    Check(
        id="whmcs.gateways",
        description="the payment gateways that the settings name are there",
        run=_gateways,
        cure="Use the system names of gateways that are switched on in WHMCS",
        needs=("whmcs.api.GetPaymentMethods",),
    ),
    Check(
        id="whmcs.references",
        description="WHMCS gives an order's reference back",
        run=_references,
        cure="Set WHMCS_MARKER_CUSTOM_FIELD to a custom field of every product",
        needs=("database.migrations",),
    ),
)
