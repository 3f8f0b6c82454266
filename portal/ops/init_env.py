"""`flask init-env`: writes a first .env: secrets made, what only people know asked for, each answer checked at once."""

from __future__ import annotations

import datetime
import os
import re
import secrets
import shlex
import sys
from collections.abc import Mapping
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, Final

import click
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from portal.ops.doctor.checks import CHECKS
from portal.ops.doctor.model import Context
from portal.ops.doctor.printer import Printer
from portal.ops.doctor.runner import run_checks
from portal.settings import Settings, SettingsError, misspelt

#: Secrets that nobody need think of: made here, 32 random bytes each.
_GENERATED: Final = ("SECRET_KEY", "SF_WEBHOOK_SECRET", "WHMCS_WEBHOOK_SECRET", "METRICS_TOKEN")
#: Answers that most people give.
_USUAL: Final = {"SF_LOGIN_URL": "https://login.salesforce.com"}
_CERTIFICATE_DAYS: Final = 730


@click.command("init-env")
@click.option("--output", type=click.Path(dir_okay=False, path_type=Path), default=Path(".env"), show_default=True)
@click.option("--development", is_flag=True, help="For a developer's machine: SQLite and a Valkey of its own.")
@click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="A setting that isn't asked for any more.")
@click.option("--no-input", is_flag=True, help="Ask nothing: what --set and the environment don't say is a fault.")
@click.option("--no-doctor", is_flag=True, help="Don't run `flask doctor` on it afterwards.")
def init_env(output: Path, development: bool, given: tuple[str, ...], no_input: bool, no_doctor: bool) -> None:
    """Write a .env that the portal starts with: makes the secrets and Salesforce's key pair, asks for the rest.

    Settings that the environment has already are taken from there. Ends with what `flask doctor` says of it.
    """
    if output.exists():
        raise click.ClickException(f"{output} is there already, and its secrets are in use: move it away first")
    values = _given(given, os.environ) | {"PORTAL_ENV": "development" if development else "production"}
    key = Path(values.setdefault("SF_PRIVATE_KEY_PATH", str(output.absolute().with_name("sf-private.key"))))
    made_key = not key.exists()
    try:
        if made_key:
            _make_key_pair(key)
        for name in _GENERATED:
            if not values.keys() & {name, f"{name}_FILE"}:
                values[name] = secrets.token_hex(32)
        if not no_input:
            _ask_for_rest(values)
        Settings.from_environ(values)
        _write_private(output, "".join(f"{name}={shlex.quote(value)}\n" for name, value in values.items()))
    except SettingsError as refused:
        _forget(key, made_key)
        raise click.ClickException("nothing was written:\n" + "\n".join(refused.faults)) from None
    except OSError as error:
        _forget(key, made_key)
        raise click.ClickException(f"{error.filename} can't be written: {error.strerror}") from None
    except click.Abort:
        _forget(key, made_key)
        raise
    _tell_next(output, key if made_key else None)
    if not no_doctor:
        printer = Printer(click.echo)
        report = run_checks(CHECKS, Context(values), tell=printer.tell)
        printer.conclude(report)
        sys.exit(0 if report.success else 1)


def _given(pairs: tuple[str, ...], environ: Mapping[str, str]) -> dict[str, str]:
    """What needn't be asked: the environment's settings, and --set's over them. Raises UsageError."""
    known = {name for setting in fields(Settings) for name in _names(setting)}
    values = {name: value for name, value in environ.items() if name in known and value}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in known or re.search(r"[\x00-\x1f\x7f]", value):
            meant = next(iter(misspelt({name: value})), f"{name} is no setting, or its value has a line break")
            raise click.UsageError(meant if equals else "--set wants NAME=VALUE")
        values.pop(name.removesuffix("_FILE"), None)
        values.pop(f"{name}_FILE", None)
        values[name] = value
    return values


def _names(setting: Field[Any]) -> tuple[str, ...]:
    name = setting.name.upper()
    return (name, f"{name}_FILE") if setting.metadata["secret"] else (name,)


def _ask_for_rest(values: dict[str, str]) -> None:
    """Ask for every setting that is needed and not there, until its answer is one."""
    production = values["PORTAL_ENV"] == "production"
    for setting in fields(Settings):
        needed = setting.metadata["needed"] in (("always", "production") if production else ("always",))
        if needed and not values.keys() & set(_names(setting)):
            values[setting.name.upper()] = _ask(setting)


def _ask(setting: Field[Any]) -> str:
    name, secret = setting.name.upper(), bool(setting.metadata["secret"])
    click.echo(f"\n{name}: {setting.metadata['doc']}")
    while True:
        answer = str(click.prompt(name, default=_USUAL.get(name), hide_input=secret)).strip()
        try:
            setting.metadata["parse"](answer)
        except ValueError as error:
            click.echo(f"{name} {error}", err=True)
        else:
            return answer


def _make_key_pair(path: Path) -> None:
    """The private key that signs Salesforce's JWT, and beside it (….crt) the certificate that Salesforce is given."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "order-portal")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=_CERTIFICATE_DAYS))
        .sign(key, hashes.SHA256())
    )
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    _write_private(path, key.private_bytes(pem, pkcs8, serialization.NoEncryption()).decode("ascii"))
    path.with_suffix(".crt").write_bytes(certificate.public_bytes(pem))


def _forget(key: Path, made: bool) -> None:
    """Nothing was written: nor is a key that nobody knows of left lying about."""
    if made:
        key.unlink(missing_ok=True)
        key.with_suffix(".crt").unlink(missing_ok=True)


def _write_private(path: Path, text: str) -> None:
    """A new file that its owner alone may read. Raises FileExistsError, OSError."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)


def _tell_next(output: Path, key: Path | None) -> None:
    click.echo(f"\nWrote {output} (readable by you alone). In a shell: set -a; . {shlex.quote(str(output))}; set +a")
    if key is not None:
        click.echo(f"Made {key}; Salesforce's External Client App is given the certificate {key.with_suffix('.crt')}.")
    click.echo("WHMCS' hook file and Salesforce's External Credential need the two webhook secrets that are in it.")
    click.echo(
        "Next: `flask db upgrade`, then the web server, the worker and the sweep. What `flask doctor` says now:\n"
    )
