"""The signed doors: what Salesforce and WHMCS may call, and how a caller proves itself."""

from __future__ import annotations

from flask import Flask, request


def register(app: Flask) -> None:
    """Put the doors into the application; `app.extensions["portal"]` must hold its Services."""
    from portal.webhooks import receiver, salesforce, whmcs
    from portal.webhooks.commands import send_fulfillment
    from portal.webhooks.limits import Limits
    from portal.webhooks.nonces import Nonces
    from portal.webhooks.security_events import SecurityEvents
    from portal.webhooks.waiting import Waiting

    services = app.extensions["portal"]
    settings = services.settings
    blueprints = {salesforce.blueprint: receiver.SALESFORCE}
    if settings.whmcs_webhook_secret:  # without it that door doesn't exist
        blueprints[whmcs.blueprint] = receiver.WHMCS
    by_name = {blueprint.name: door for blueprint, door in blueprints.items()}

    def admit() -> None:
        door = by_name.get(request.blueprint or "")
        if door is not None:
            receiver.admit(door)

    app.before_request(admit)  # before the limiter's own, which Limits adds: who isn't let in isn't counted
    limits = Limits(app, settings, services.redis)
    app.extensions["portal-doors"] = receiver.Doors(
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
