"""The signed receivers: what Salesforce and WHMCS may call, and how a caller proves itself."""

from __future__ import annotations

from flask import Flask, request


def register(app: Flask) -> None:
    """Put the receivers into the application; `app.extensions["portal"]` must hold its Services."""
    from portal.webhooks import receivers, salesforce, whmcs
    from portal.webhooks.commands import send_fulfillment
    from portal.webhooks.limits import Limits
    from portal.webhooks.nonces import Nonces
    from portal.webhooks.security_events import SecurityEvents
    from portal.webhooks.waiting import Waiting

    services = app.extensions["portal"]
    settings = services.settings
    blueprints = {salesforce.blueprint: receivers.SALESFORCE}
    if settings.whmcs_webhook_secret:  # without it that receiver doesn't exist
        blueprints[whmcs.blueprint] = receivers.WHMCS
    by_name = {blueprint.name: receiver for blueprint, receiver in blueprints.items()}

    def admit() -> None:
        receiver = by_name.get(request.blueprint or "")
        if receiver is not None:
            receivers.admit(receiver)

    app.before_request(admit)  # before the limiter's own, which Limits adds: who isn't let in isn't counted
    limits = Limits(app, settings, services.redis)
    app.extensions["portal-receivers"] = receivers.Receivers(
        limits,
        Nonces(
            services.redis,
            tolerance=settings.webhook_timestamp_tolerance / 1000,
            memory_fallback=not settings.production,
        ),
        Waiting(services.redis, settings.fulfillment_max_waiters),
        SecurityEvents(services.ledger, settings, services.now),
    )
    for blueprint in blueprints:
        limits.guard(blueprint)
        app.register_blueprint(blueprint)
    app.cli.add_command(send_fulfillment)
