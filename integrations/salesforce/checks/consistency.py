"""What no compiler sees: that fields, permissions, names and lists of the project agree with each other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from integrations.salesforce.checks import status_table
from integrations.salesforce.checks.apex import Unsupported
from integrations.salesforce.checks.platform import xml

#: Custom fields that only this package's own Apex and pages use.
NOT_THE_PORTALS = {"Order.Provisioning_Request_Key__c"}
#: What belongs to the customer: a deployment must not replace it.
CUSTOMERS_OWN = (
    "standardValueSets",
    "layouts",
    "flexipages",
    "profiles",
    "settings",
    "objects/Order/Order.object-meta.xml",
)


class Project:
    """The default package directory, parsed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.main = root / "force-app" / "main" / "default"
        self.fields = {
            f"{path.parts[-3]}.{path.name.removesuffix('.field-meta.xml')}": xml(path)
            for path in sorted(self.main.glob("objects/*/fields/*.field-meta.xml"))
        }
        self.permission_sets = {
            path.name.removesuffix(".permissionset-meta.xml"): xml(path)
            for path in sorted(self.main.glob("permissionsets/*"))
        }
        self.classes = {path.stem: path.read_text(encoding="utf-8") for path in sorted(self.main.glob("classes/*.cls"))}

    def names(self, folder: str, suffix: str) -> set[str]:
        """Components of a folder, by the suffix of their files."""
        return {path.name.removesuffix(suffix) for path in (self.main / folder).glob(f"*{suffix}")}


def faults(root: Path) -> Iterator[str]:
    """Everything that doesn't agree."""
    project = Project(root)
    for check in CHECKS:
        yield from check(project)


def field_texts(project: Project) -> Iterator[str]:
    """A field without help is a question to the administrator."""
    for name, field in project.fields.items():
        for part, longest in (("description", 1000), ("inlineHelpText", 255), ("label", 40)):
            text = field.findtext(part) or ""
            if not 0 < len(text) <= longest:
                yield f"{name}: {part} has {len(text)} characters, not 1 to {longest}"


def field_permissions(project: Project) -> Iterator[str]:
    """A field that somebody may not see doesn't exist for them; what operators may edit isn't the portal's word."""
    ours = {name for name in project.fields if not name.startswith("Portal_")}
    granted = {
        name: {
            each.findtext("field") or "": each.findtext("editable") == "true" for each in root.iter("fieldPermissions")
        }
        for name, root in project.permission_sets.items()
    }
    for field in sorted(ours):
        if field not in granted["Portal_Operator"]:
            yield f"{field}: operators have no field-level security for it"
        if field not in granted["Portal_Integration"] and field not in NOT_THE_PORTALS:
            yield f"{field}: the integration user has no field-level security for it"
    for field, editable in granted["Portal_Operator"].items():
        if editable:
            yield f"{field}: operators may edit it"
    for name, fields in granted.items():
        for field in fields:
            if field.endswith("__c") and field not in ours:
                yield f"{name}: there is no field {field}"


def object_permissions(project: Project) -> Iterator[str]:
    """Operators change nothing, and nobody may delete or see everything of everything."""
    for name, root in project.permission_sets.items():
        for each in root.iter("objectPermissions"):
            granted = {child.tag for child in each if child.text == "true"}
            allowed = {"allowRead"}
            if name == "Portal_Integration":
                allowed |= {"allowEdit"} | ({"allowCreate"} if each.findtext("object") == "Order" else set())
            elif name == "Portal_Integration_View_All":
                allowed |= {"viewAllRecords"}
            if granted - allowed:
                yield f"{name}: {each.findtext('object')} grants {', '.join(sorted(granted - allowed))}"
        powers = {each.findtext("name") for each in root.iter("userPermissions")}
        allowed_powers = (
            {"ApiEnabled", "ActivateOrder", "EditActivatedOrders"} if name == "Portal_Integration" else set()
        )
        if powers - allowed_powers:
            yield f"{name} grants {', '.join(sorted(str(each) for each in powers - allowed_powers))}"
        if name != "Portal_Callout" and root.find("externalCredentialPrincipalAccesses") is not None:
            yield f"{name}: principal access belongs into Portal_Callout, whose deployment may fail alone"


def entry_points(project: Project) -> Iterator[str]:
    """What operators start must be theirs to start, and nothing else is."""
    pages = {path.stem: path.read_text(encoding="utf-8") for path in project.main.glob("pages/*.page")}
    extensions = {name for page in pages.values() for name in re.findall(r'extensions="(\w+)"', page)}
    needed = extensions | {
        name for name, text in project.classes.items() if re.search(r"@AuraEnabled\s*(\(.*\))?\s*public static", text)
    }
    needed |= {name for name, text in project.classes.items() if "@InvocableMethod" in text}
    operator = project.permission_sets["Portal_Operator"]
    granted = {each.findtext("apexClass") for each in operator.iter("classAccesses")}
    for name in sorted(needed - granted):
        yield f"{name}: Portal_Operator has no access to this class"
    for name in sorted(str(each) for each in granted - needed):
        yield f"{name}: Portal_Operator has access to a class that nobody starts"
    if {each.findtext("apexPage") for each in operator.iter("pageAccesses")} != set(pages):
        yield "Portal_Operator's pages aren't the pages there are"
    for name, page in pages.items():
        for shown in re.findall(r"\brow\.(\w+)", page):
            if not re.search(rf"\b{shown} \{{\s*get", project.classes["OrderProvisioningListController"]):
                yield f"{name}.page: Visualforce can't read row.{shown}, which has no getter"
    permissions = project.names("customPermissions", ".customPermission-meta.xml")
    if {each.findtext("name") for each in operator.iter("customPermissions")} != permissions:
        yield "Portal_Operator's custom permissions aren't those there are"
    for name in permissions:
        if f"PERMISSION = '{name}'" not in project.classes["OrderProvisioningService"]:
            yield f"{name}: no Apex asks for this permission"


def references(project: Project) -> Iterator[str]:
    """One file's name in another file."""
    components = {path.name for path in project.main.glob("lwc/*") if path.is_dir()}
    for path in project.main.glob("quickActions/*"):
        if xml(path).findtext("lightningWebComponent") not in components:
            yield f"{path.name}: there is no such component"
    pages = project.names("pages", ".page")
    for path in project.main.glob("objects/*/webLinks/*"):
        if xml(path).findtext("page") not in pages:
            yield f"{path.name}: there is no such page"
    credentials = {}
    for path in project.main.glob("externalCredentials/*"):
        root = xml(path)
        name = path.name.removesuffix(".externalCredential-meta.xml")
        credentials[name] = {
            each.findtext("parameterName")
            for each in root.iter("externalCredentialParameters")
            if each.findtext("parameterType") == "NamedPrincipal"
        }
        if root.find(".//parameterValue") is not None:
            yield f"{path.name}: values of a credential are typed in Setup, not deployed"
    for path in project.main.glob("namedCredentials/*"):
        for each in xml(path).iter("externalCredential"):
            if each.text not in credentials:
                yield f"{path.name}: there is no external credential {each.text}"
    for each in project.permission_sets["Portal_Callout"].iter("externalCredentialPrincipal"):
        name, _, principal = (each.text or "").partition("-")
        if principal not in credentials.get(name, set()):
            yield f"Portal_Callout: there is no principal {each.text}"
    used = set(re.findall(r"\$Credential\.(\w+)\.", project.classes["OrderProvisioningSignature"]))
    if used != set(credentials):
        yield f"OrderProvisioningSignature signs with {', '.join(sorted(used))}"


def words(project: Project) -> Iterator[str]:
    """Statuses and error codes that two places must spell alike."""
    statuses = {each.findtext("fullName") for each in project.fields["Order.Provisioning_Status__c"].iter("value")}
    for name, text in project.classes.items():
        for status in re.findall(r"(?:STATUS|REQUESTED|FAILED) = '([^']+)'|when '([A-Z][a-z]+)'", text):
            if not set(status) & statuses:
                yield f"{name}: {''.join(status)} is no value of Provisioning_Status__c"
    hints = (project.main / "lwc" / "provisioningStatus" / "hints.js").read_text(encoding="utf-8")
    explained = set(re.findall(r"^    ([A-Z_]+):", hints, re.MULTILINE))
    for name in ("OrderProvisioningAnswer", "OrderProvisioningCallout", "OrderProvisioningFinalizer"):
        for code in re.findall(r"'([A-Z]+(?:_[A-Z]+)+)'", project.classes[name]):
            if code not in explained:
                yield f"{name}: hints.js has nothing to say about {code}"


def versions(project: Project) -> Iterator[str]:
    """One API version, chosen in one place."""
    chosen = json.loads((project.root / "sfdx-project.json").read_text(encoding="utf-8"))["sourceApiVersion"]
    for path in project.root.glob("*/main/default/**/*-meta.xml"):
        version = xml(path).findtext("apiVersion")
        if version not in (None, chosen):
            yield f"{path.name}: apiVersion {version}, but the project is {chosen}"
    for path in project.main.glob("classes/*.cls"):
        if not path.with_name(f"{path.name}-meta.xml").exists():
            yield f"{path.name}: its -meta.xml is missing"


def customers_own(project: Project) -> Iterator[str]:
    """Deploying these would replace what the customer has."""
    for name in CUSTOMERS_OWN:
        if (project.main / name).exists():
            yield f"{name} is the customer's: it doesn't belong into the default folder"


def uninstall(project: Project) -> Iterator[str]:
    """Whatever is deployed can be removed."""
    removed = set()
    for path in (project.root / "uninstall").rglob("destructiveChanges*.xml"):
        for each in xml(path).iter("types"):
            removed |= {(each.findtext("name") or "", member.text or "") for member in each.iter("members")}
    deployed = set(components(project))
    for kind, name in sorted(deployed - removed):
        yield f"uninstall/ forgets {kind} {name}"
    for kind, name in sorted(removed - deployed):
        yield f"uninstall/ removes {kind} {name}, which isn't deployed"


def components(project: Project) -> Iterator[tuple[str, str]]:
    """Every component of the project as (type, name)."""
    kinds = {
        "classes": ("ApexClass", ".cls"),
        "pages": ("ApexPage", ".page"),
        "permissionsets": ("PermissionSet", ".permissionset-meta.xml"),
        "customPermissions": ("CustomPermission", ".customPermission-meta.xml"),
        "namedCredentials": ("NamedCredential", ".namedCredential-meta.xml"),
        "externalCredentials": ("ExternalCredential", ".externalCredential-meta.xml"),
        "quickActions": ("QuickAction", ".quickAction-meta.xml"),
        "customMetadata": ("CustomMetadata", ".md-meta.xml"),
    }
    for folder, (kind, suffix) in kinds.items():
        for name in project.names(folder, suffix):
            yield kind, name
    for path in project.main.glob("lwc/*"):
        yield "LightningComponentBundle", path.name
    for path in project.main.glob("objects/*/webLinks/*"):
        yield "WebLink", f"{path.parts[-3]}.{path.name.removesuffix('.webLink-meta.xml')}"
    for path in project.main.glob("objects/*/*.object-meta.xml"):
        yield "CustomObject", path.parent.name
    for name in project.fields:
        if not name.startswith("Portal_"):
            yield "CustomField", name


def tests_of_statuses(project: Project) -> Iterator[str]:
    """Every branch of the status table has its Apex test, and README.md shows the table."""
    try:
        lines, missing = status_table.table(project.root)
    except Unsupported as unreadable:
        yield f"the table of statuses can't be read: {unreadable}"
        return
    yield from missing
    if status_table.as_markdown(lines) not in (project.root / "README.md").read_text(encoding="utf-8"):
        yield "README.md: the table of statuses is old: `python -m integrations.salesforce.checks.status_table`"


def lock_file(project: Project) -> Iterator[str]:
    """Versions are pinned; where they come from is the installer's business."""
    package = json.loads((project.root / "package.json").read_text(encoding="utf-8"))
    for part in ("devDependencies", "optionalDependencies"):
        for name, version in package[part].items():
            if not re.fullmatch(r"\d+\.\d+\.\d+", version):
                yield f"package.json: {name} {version} isn't pinned"
    lock = (project.root / "package-lock.json").read_text(encoding="utf-8")
    if '"resolved"' in lock:
        yield "package-lock.json names the addresses of a registry"
    locked = json.loads(lock)["packages"][""]
    if any(locked.get(part) != package[part] for part in ("devDependencies", "optionalDependencies")):
        yield "package-lock.json isn't package.json's"


def data_files(project: Project) -> Iterator[str]:
    """bin/install.mjs compares an org with this list of what the portal reads and writes."""
    path = project.root / "data" / "portal-fields.json"
    listed = json.loads(path.read_text(encoding="utf-8"))
    for name in project.fields:
        if not name.startswith("Portal_") and name not in NOT_THE_PORTALS and name not in listed:
            yield f"data/portal-fields.json forgets {name}"


CHECKS: tuple[Callable[[Project], Iterator[str]], ...] = (
    field_texts,
    field_permissions,
    object_permissions,
    entry_points,
    references,
    words,
    versions,
    customers_own,
    uninstall,
    tests_of_statuses,
    lock_file,
    data_files,
)
