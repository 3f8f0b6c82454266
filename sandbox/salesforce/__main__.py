"""`python -m sandbox.salesforce`: runs the pretend org."""

from __future__ import annotations

import os

from sandbox.launch import base_parser, run_sandbox, secret_from_env
from sandbox.salesforce.app import Org


def main() -> None:
    """Settings come from the command line or the environment, secrets only from the environment or a file."""
    parser = base_parser("A pretend Salesforce org")
    env = os.environ.get
    parser.add_argument("--client-id", default=env("SANDBOX_SF_CLIENT_ID"))
    parser.add_argument("--username", default=env("SANDBOX_SF_USERNAME"))
    parser.add_argument("--public-key", default=env("SANDBOX_SF_PUBLIC_KEY"), help="PEM: public key or certificate")
    parser.add_argument("--audience", default=env("SANDBOX_SF_AUDIENCE"), help="accepted beside Salesforce's own two")
    parser.add_argument("--portal-url", default=env("SANDBOX_PORTAL_URL"))
    arguments = parser.parse_args()
    settings = {
        name: getattr(arguments, name) for name in ("client_id", "username", "public_key", "audience", "portal_url")
    }
    settings["webhook_secret"] = secret_from_env("SANDBOX_WEBHOOK_SECRET", "SF_WEBHOOK_SECRET")
    run_sandbox(Org(arguments.data, settings), arguments)


if __name__ == "__main__":
    main()
