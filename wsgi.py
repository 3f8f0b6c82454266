"""What gunicorn serves: `gunicorn wsgi:app`. Refuses to start half-configured or on an unmigrated ledger.

`flask` comes through here too, for it finds wsgi.py first. Its commands check for themselves what they need, and where
the portal can't be built there are `flask --help` and `flask doctor` to say why.
"""

from __future__ import annotations

import os
import sys

from app import create_app, create_commands_app
from portal.errors import PortalError
from portal.logs import log_what_nobody_catches, set_up_logging
from portal.services import start_services
from portal.settings import SettingsError

set_up_logging()
if "FLASK_RUN_FROM_CLI" in os.environ:
    try:
        app = create_app()
    except (SettingsError, PortalError, OSError, RuntimeError, ValueError) as error:
        told = str(error) if isinstance(error, SettingsError | PortalError) else type(error).__name__
        app = create_commands_app(f"the portal can't be built:\n{told}\n`flask doctor` says more")
else:
    log_what_nobody_catches()
    try:
        services = start_services(os.environ)
        app = create_app(services=services)
        services.ledger.dispose()  # gunicorn's master has looked: only who serves keeps a connection
    except (SettingsError, PortalError) as error:
        print(f"The portal can't start:\n{error}", file=sys.stderr, flush=True)
        sys.exit(4)  # gunicorn's APP_LOAD_ERROR: its master stops instead of trying again and again
