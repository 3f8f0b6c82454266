"""What gunicorn serves: `gunicorn wsgi:app`. Refuses to start half-configured or on an unmigrated ledger."""

from __future__ import annotations

import os
import sys

from app import create_app
from portal.errors import PortalError
from portal.logs import set_up_logging
from portal.settings import SettingsError
from portal.web.context import portal_of

set_up_logging()
try:
    app = create_app()
    if "FLASK_RUN_FROM_CLI" not in os.environ:  # `flask db upgrade` comes through here too: it finds wsgi.py first
        services = portal_of(app).services
        services.require_migrated()
        services.require_same_installation()
except (SettingsError, PortalError) as error:
    print(f"The portal can't start:\n{error}", file=sys.stderr, flush=True)
    sys.exit(4)  # gunicorn's APP_LOAD_ERROR: its master stops instead of trying again and again
