"""`python -m sandbox.whmcs`: runs the pretend WHMCS."""

from __future__ import annotations

import os

from sandbox.launch import base_parser, run_sandbox, secret_from_env
from sandbox.whmcs.app import Whmcs


def main() -> None:
    """Settings come from the command line or the environment, secrets only from the environment or a file."""
    parser = base_parser("A pretend WHMCS")
    env = os.environ.get
    parser.add_argument("--identifier", default=secret_from_env("SANDBOX_WHMCS_IDENTIFIER", "WHMCS_API_IDENTIFIER"))
    parser.add_argument("--portal-url", default=env("SANDBOX_PORTAL_URL"))
    parser.add_argument("--notes", choices=("stored", "dropped"), default=env("SANDBOX_WHMCS_NOTES"))
    parser.add_argument("--ids", choices=("strings", "ints"), default=env("SANDBOX_WHMCS_IDS"))
    arguments = parser.parse_args()
    settings = {name: getattr(arguments, name) for name in ("identifier", "portal_url", "notes", "ids")}
    settings["secret"] = secret_from_env("SANDBOX_WHMCS_SECRET", "WHMCS_API_SECRET")
    settings["admin_username"] = env("SANDBOX_WHMCS_ADMIN_USERNAME")
    settings["admin_password"] = secret_from_env("SANDBOX_WHMCS_ADMIN_PASSWORD")
    settings["access_key"] = secret_from_env("SANDBOX_WHMCS_ACCESS_KEY", "WHMCS_API_ACCESS_KEY")
    settings["webhook_secret"] = secret_from_env("SANDBOX_WHMCS_WEBHOOK_SECRET", "WHMCS_WEBHOOK_SECRET")
    run_sandbox(Whmcs(arguments.data, settings), arguments)


if __name__ == "__main__":
    main()
