"""The signed receivers: what Salesforce and WHMCS may call, and how a caller proves itself.

The imports stand inside the functions: a worker imports portal.webhooks.alerts, and needs no web framework for that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from flask import Flask

    from portal.services import Services
    from portal.web.lifecycle import Lifecycle
    from portal.webhooks.receivers import Receivers


def build(services: Services, lifecycle: Lifecycle) -> Receivers:
    """What the receivers keep in one application; connects to nothing yet."""
    from portal.ledger.acceptor import Acceptor
    from portal.ledger.group_commit import GroupCommit
    from portal.queue.dispatcher import Dispatcher
    from portal.webhooks import whmcs
    from portal.webhooks.admission import Admission
    from portal.webhooks.limits import Limits
    from portal.webhooks.nonces import Nonces
    from portal.webhooks.receivers import Receivers
    from portal.webhooks.security_events import SecurityEvents
    from portal.webhooks.waiting import Waiting

    settings = services.settings
    waiting = Waiting(services.redis, lifecycle, most=settings.fulfillment_max_waiters)
    security = SecurityEvents(services.ledger, settings, clock=services.now)
    lifecycle.on_stop(waiting.stop)
    lifecycle.on_end(security.close)
    lifecycle.on_end(services.traces.close)
    nonces = Nonces(
        services.redis,
        tolerance=settings.webhook_timestamp_tolerance / 1000,
        memory_fallback=not settings.production,
    )
    limits = Limits(settings, services.redis)
    admission = Admission(services.redis, limits, nonces)
    dispatcher = Dispatcher(services.jobs)
    lifecycle.on_end(dispatcher.close)
    events = GroupCommit(services.ledger, whmcs.take)
    return Receivers(limits, nonces, waiting, security, Acceptor(services.ledger), events, dispatcher, admission)


def register(app: Flask) -> None:
    """Put the receivers' routes and command into an application whose Portal has the Receivers of `build`."""
    from flask import request

    from portal.web.context import portal_of
    from portal.webhooks import door, receivers, salesforce, whmcs

    portal = portal_of(app)
    limits = portal.part(receivers.Receivers).limits
    blueprints = {salesforce.blueprint: receivers.SALESFORCE}
    if portal.services.settings.whmcs_webhook_secret:  # without it that receiver doesn't exist
        blueprints[whmcs.blueprint] = receivers.WHMCS
    by_name = {blueprint.name: receiver for blueprint, receiver in blueprints.items()}

    def admit() -> None:
        receiver = by_name.get(request.blueprint or "")
        if receiver is not None:
            receivers.admit(receiver)

    app.before_request(admit)
    limits.init_app(app)
    for blueprint in blueprints:
        app.register_blueprint(blueprint)
    door.register(app)
    register_commands(app)


def register_commands(app: Flask) -> None:
    """Add `flask send-fulfillment`."""
    from portal.webhooks.commands import send_fulfillment

    app.cli.add_command(send_fulfillment)
