"""Whether the settings are there, sound and spelt as the portal spells them."""

from __future__ import annotations

from portal.ops.doctor.model import Check, Context, Finding, error, good
from portal.settings import Settings, SettingsError, misspelt

#: What everything else depends on.
SOUND = ("settings.names", "settings.values")


def _names(context: Context) -> Finding:
    faults = misspelt(context.environ)
    return error("; ".join(faults)) if faults else good()


def _values(context: Context) -> Finding:
    """The faults of the values; misspelt names have their own line."""
    names = {fault.partition(" ")[0] for fault in misspelt(context.environ)}
    try:
        context.settings = Settings.from_environ(
            {name: value for name, value in context.environ.items() if name not in names}
        )
    except SettingsError as refused:
        return error("; ".join(refused.faults))
    return good()


CHECKS = (
    Check(
        id="settings.names",
        description="no variable's name is almost a setting's",
        run=_names,
        cure="Rename the variable, or take it out of the portal's environment",
    ),
    Check(
        id="settings.values",
        description="every setting that is needed is there, and none contradicts another",
        run=_values,
        cure="Set what the line names; docs/setup.md has every setting",
    ),
)
