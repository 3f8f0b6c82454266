"""Every check of the Salesforce side: what it runs, and the faults that are planted to show that it bites."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from integrations.salesforce.checks import consistency, metadata
from integrations.salesforce.checks.platform import xml
from integrations.salesforce.checks.tools import Result, Tools

CLASSES = "force-app/main/default/classes"
LWC = "force-app/main/default/lwc"
FOLDERS = ("force-app", "signing-apex", "scratch", "optional", "external-client-app")


@dataclass(frozen=True)
class Plant:
    """A fault put into a copy of the project: `old` becomes `new` in a file (all of it, where old is None: a new
    file). The check must fail and say something with `expects` in it.
    """

    what: str
    file: str
    old: str | None
    new: str
    expects: str


@dataclass(frozen=True)
class Check:
    """One check; `run` gets the tools, the project, and whether it is looking for planted faults."""

    name: str
    about: str
    run: Callable[[Tools, Path], Result]
    plants: tuple[Plant, ...]


# --- what they run -----------------------------------------------------------------------------------------------


def apex_types(tools: Tools, project: Path) -> Result:
    """apex-ls; the anonymous scripts go through it as methods of a class each."""
    with tempfile.TemporaryDirectory(prefix="apex-types-") as folder:
        copy = Path(folder)
        classes = copy / CLASSES
        (copy / "force-app/main").mkdir(parents=True)
        (copy / "sfdx-project.json").write_bytes((project / "sfdx-project.json").read_bytes())
        _copy(project / "force-app/main/default", copy / "force-app/main/default")
        for number, script in enumerate(sorted((project / "scripts/apex").glob("*.apex")), start=1):
            body = script.read_text(encoding="utf-8")
            (classes / f"Script{number}.cls").write_text(f"public class Script{number} {{ void run() {{\n{body}\n}} }}")
            meta = (classes / "OrderProvisioningJob.cls-meta.xml").read_bytes()
            (classes / f"Script{number}.cls-meta.xml").write_bytes(meta)
        told = tools.java(copy, "io.github.apexdevtools.apexls.CheckForIssues", "-n", "-d", "warnings", "-w", folder)
    return Result(told.passed and not told.output.strip(), told.output)


def apex_security(tools: Tools, project: Path) -> Result:
    """PMD's rules of security, error-proneness and performance, through Salesforce Code Analyzer."""
    return tools.node(project, "checks/analyze.mjs", ".", "pmd:Security", "pmd:ErrorProne", "pmd:Performance")


def apex_traps(tools: Tools, project: Path) -> Result:
    """Our own rules, in code-analyzer.yml."""
    return tools.node(project, "checks/analyze.mjs", ".", "regex:OrderPortal")


def formatting(tools: Tools, project: Path) -> Result:
    """Prettier, with its plugin for Apex."""
    return tools.node(project, "node_modules/prettier/bin/prettier.cjs", "--check", ".")


def lwc_lint(tools: Tools, project: Path) -> Result:
    """ESLint with Salesforce's recommended rules for Lightning web components."""
    return tools.node(project, "node_modules/eslint/bin/eslint.js", "--max-warnings", "0", "force-app")


def lwc_tests(tools: Tools, project: Path) -> Result:
    """Jest."""
    return tools.node(project, "node_modules/@salesforce/sfdx-lwc-jest/bin/sfdx-lwc-jest", "--", "--ci")


def metadata_types(tools: Tools, project: Path) -> Result:
    """The WSDL's types as an XSD."""
    return _listed(metadata.faults(project))


def metadata_convert(tools: Tools, project: Path) -> Result:
    """`sf project convert source`: folders, suffixes and names; and that the address gets into the named credential."""
    output = []
    with tempfile.TemporaryDirectory(prefix="converted-") as folder:
        for each in FOLDERS:
            target = f"{folder}/{each}"
            done = tools.node(
                project,
                *("node_modules/@salesforce/cli/bin/run.js", "project", "convert", "source"),
                *("--root-dir", each, "--output-dir", target),
                at_least=22,
                SF_APPLY_REPLACEMENTS_ON_CONVERT="true",
                PORTAL_BASE_URL="https://converted.example/shop",
            )
            if not done.passed:
                output.append(f"{each}: {done.output}")
                continue
            if each == "force-app":
                output += _converted(project, Path(target))
    return Result(not output, "\n".join(output))


def agreement(tools: Tools, project: Path) -> Result:
    """Fields, permissions, references, the uninstaller's lists, the table of statuses and its Apex tests."""
    return _listed(consistency.faults(project))


def installer(tools: Tools, project: Path) -> Result:
    """bin/install.mjs against a stand-in for the CLI."""
    return tools.node(project, "--test", "--test-reporter=spec", "checks/install.test.mjs")


def _listed(faults: Iterator[str]) -> Result:
    found = list(faults)
    return Result(not found, "\n".join(found))


def _converted(project: Path, folder: Path) -> list[str]:
    manifest = {
        (str(each.findtext("name")), str(member.text))
        for each in xml(folder / "package.xml").iter("types")
        for member in each.iter("members")
    }
    wanted = set(consistency.components(consistency.Project(project)))
    # Fields, buttons and the like are parts of their object's file once converted.
    inner = {(kind, name) for kind, name in wanted if kind in ("CustomField", "WebLink", "CustomObject")}
    found = [f"convert makes nothing of {kind} {name}" for kind, name in sorted(wanted - inner - manifest)]
    credential = xml(folder / "namedCredentials" / "Portal_BFF.namedCredential")
    if "https://converted.example/shop" not in [each.text for each in credential.iter("parameterValue")]:
        found.append("PORTAL_BASE_URL doesn't get into the named credential")
    return found


def _copy(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        if path.is_file():
            to = target / path.relative_to(source)
            to.parent.mkdir(parents=True, exist_ok=True)
            to.write_bytes(path.read_bytes())


# --- the list ------------------------------------------------------------------------------------------------------

CHECKS = (
    Check(
        "apex-types",
        "Apex classes and scripts are correct in syntax and types (apex-ls)",
        apex_types,
        (
            Plant(
                "a method that isn't there",
                f"{CLASSES}/OrderProvisioningCallout.cls",
                "OrderProvisioningRequest.build(",
                "OrderProvisioningRequest.construct(",
                "construct",
            ),
            Plant(
                "a field that isn't there",
                f"{CLASSES}/OrderProvisioningRecords.cls",
                "Provisioning_Error_Code__c = null",
                "Provisioning_Eror_Code__c = null",
                "Provisioning_Eror_Code__c",
            ),
            Plant(
                "a call of nothing in an anonymous script",
                "scripts/apex/check-connection.apex",
                "OrderProvisioningConnection.check()",
                "OrderProvisioningConnection.verify()",
                "verify",
            ),
        ),
    ),
    Check(
        "apex-security",
        "no finding of PMD's security, error and performance rules (Code Analyzer)",
        apex_security,
        (
            Plant(
                "SOQL put together from a parameter",
                f"{CLASSES}/OrderProvisioningCallout.cls",
                "    public static OrderProvisioningAnswer send(",
                "    public static List<SObject> find(String name) {\n"
                "        return Database.query('SELECT Id FROM Order WHERE Name = \\'' + name + '\\'');\n"
                "    }\n\n"
                "    public static OrderProvisioningAnswer send(",
                "ApexSOQLInjection",
            ),
            Plant(
                "an address without TLS",
                f"{CLASSES}/OrderProvisioningRequest.cls",
                "request.setMethod('POST');",
                "request.setMethod('POST');\n        String insecure = 'http://portal.example.com';\n"
                "        request.setEndpoint(insecure);",
                "ApexInsecureEndpoint",
            ),
            Plant(
                "a page that writes what it gets unescaped",
                "force-app/main/default/pages/ProvisionOrders.page",
                '<apex:outputText value="{!row.record.Status}" />',
                '<apex:outputText value="{!row.record.Status}" escape="false" />',
                "VfUnescapeEl",
            ),
        ),
    ),
    Check(
        "apex-traps",
        "none of the traps of the guide's sample and of API 67 (code-analyzer.yml)",
        apex_traps,
        (
            Plant(
                "a merge field in a constant",
                f"{CLASSES}/OrderProvisioningSignature.cls",
                "    @TestVisible",
                "    private static final String WEBHOOK = '{!$Credential.Portal_Webhook.Password}';\n    @TestVisible",
                "MergeFieldIsNotMerged",
            ),
            Plant(
                "local time labelled Z",
                f"{CLASSES}/OrderProvisioningRequest.cls",
                "System.now().formatGmt(ISO_8601)",
                "System.now().format('yyyy-MM-dd\\'T\\'HH:mm:ss\\'Z\\'')",
                "LocalTimeLabelledZ",
            ),
            Plant(
                "half a nonce",
                f"{CLASSES}/OrderProvisioningRequest.cls",
                "EncodingUtil.convertToHex(Crypto.generateAesKey(128));",
                "EncodingUtil.convertToHex(Crypto.generateAesKey(128)).substring(0, 16);",
                "ShortNonce",
            ),
            Plant(
                "a key with the clock in it",
                f"{CLASSES}/OrderProvisioningRequest.cls",
                "request.setHeader('Idempotency-Key', key",
                "request.setHeader('Idempotency-Key', System.now().getTime() + key",
                "KeyWithTheClockInIt",
            ),
            Plant(
                "a @future method",
                f"{CLASSES}/OrderProvisioningCallout.cls",
                "    public static OrderProvisioningAnswer send(",
                "    @future(callout=true)\n    public static OrderProvisioningAnswer send(",
                "FutureMethod",
            ),
            Plant(
                "a query without mode",
                f"{CLASSES}/OrderProvisioningService.cls",
                "WHERE Id IN :orderIds WITH USER_MODE]",
                "WHERE Id IN :orderIds]",
                "QueryWithoutMode",
            ),
            Plant(
                "an update without mode",
                f"{CLASSES}/OrderProvisioningRecords.cls",
                "Database.update(changes, false, AccessLevel.SYSTEM_MODE)",
                "Database.update(changes, false)",
                "DmlWithoutMode",
            ),
            Plant(
                "the portal's own field written",
                f"{CLASSES}/OrderProvisioningRecords.cls",
                "Provisioning_Status__c = REQUESTED,",
                "Provisioning_Status__c = REQUESTED,\n                        Last_Provisioning_At__c = System.now(),",
                "PortalsOwnField",
            ),
            Plant(
                "a logging package that must be there",
                f"{CLASSES}/OrderProvisioningLog.cls",
                "System.debug(level,",
                "Nebula.Logger.info(message);\n        System.debug(level,",
                "HardLoggerDependency",
            ),
            Plant(
                "a secret in Apex",
                f"{CLASSES}/OrderProvisioningSignature.cls",
                "String secret = Portal_Secret__c",
                "String fallbackSecret = '5f4dcc3b5aa765d61d8327deb882cf99';\n        String secret = Portal_Secret__c",
                "SecretInApex",
            ),
            Plant(
                "a secret in metadata",
                "force-app/main/default/namedCredentials/Portal_BFF.namedCredential-meta.xml",
                "    <namedCredentialType>",
                "    <password>your_256_bit_secret_key_here</password>\n    <namedCredentialType>",
                "SecretInMetadata",
            ),
        ),
    ),
    Check(
        "formatting",
        "Apex, components and scripts are formatted (Prettier)",
        formatting,
        (
            Plant(
                "Apex out of shape",
                f"{CLASSES}/OrderProvisioningException.cls",
                "public class",
                "public   class",
                "OrderProvisioningException.cls",
            ),
            Plant(
                "a component out of shape",
                f"{LWC}/provisioningStatus/provisioningStatus.html",
                "<lightning-card ",
                "<lightning-card   ",
                "provisioningStatus.html",
            ),
        ),
    ),
    Check(
        "metadata-types",
        "metadata files hold what the Metadata API's types allow (WSDL as XSD)",
        metadata_types,
        (
            Plant(
                "an element there is not",
                "force-app/main/default/objects/Order/fields/WHMCS_Order_ID__c.field-meta.xml",
                "<externalId>true</externalId>",
                "<externalID>true</externalID>",
                "externalID",
            ),
            Plant(
                "a value there is not",
                "force-app/main/default/quickActions/Order.Provision_In_WHMCS.quickAction-meta.xml",
                "<type>LightningWebComponent</type>",
                "<type>LightningComponents</type>",
                "LightningComponents",
            ),
            Plant(
                "elements in the wrong order",
                "force-app/main/default/customPermissions/Provision_In_WHMCS.customPermission-meta.xml",
                "    <isLicensed>false</isLicensed>\n    <label>Provision in WHMCS</label>\n",
                "    <label>Provision in WHMCS</label>\n    <isLicensed>false</isLicensed>\n",
                "Provision_In_WHMCS.customPermission-meta.xml",
            ),
        ),
    ),
    Check(
        "metadata-convert",
        "the Salesforce CLI converts every folder (sf project convert source)",
        metadata_convert,
        (
            Plant(
                "a suffix the CLI doesn't know",
                "optional/main/default/permissionsets/Other.permissionsets-meta.xml",
                None,
                '<?xml version="1.0" encoding="UTF-8"?>\n'
                '<PermissionSet xmlns="http://soap.sforce.com/2006/04/metadata"><label>Other</label></PermissionSet>\n',
                "Other.permissionsets-meta.xml",
            ),
            Plant(
                "an address that isn't replaced",
                "force-app/main/default/namedCredentials/Portal_BFF.namedCredential-meta.xml",
                "https://portal.example.com",
                "https://portal.example.org",
                "doesn't get into the named credential",
            ),
        ),
    ),
    Check(
        "agreement",
        "fields, permissions, names, the uninstaller's lists and the tests of the status table agree",
        agreement,
        (
            Plant(
                "a field that operators can't see",
                "force-app/main/default/permissionsets/Portal_Operator.permissionset-meta.xml",
                "<field>Order.WHMCS_Order_ID__c</field>",
                "<field>Order.WHMCS_Order_Id__c</field>",
                "Order.WHMCS_Order_ID__c: operators have no field-level security",
            ),
            Plant(
                "a field that the integration user can't see",
                "force-app/main/default/permissionsets/Portal_Integration.permissionset-meta.xml",
                "<field>OrderItem.Domain__c</field>",
                "<field>OrderItem.Hostname__c</field>",
                "OrderItem.Domain__c: the integration user has no field-level security",
            ),
            Plant(
                "operators who may edit",
                "force-app/main/default/permissionsets/Portal_Operator.permissionset-meta.xml",
                "<allowEdit>false</allowEdit>",
                "<allowEdit>true</allowEdit>",
                "Portal_Operator: Account grants allowEdit",
            ),
            Plant(
                "a button's class that operators may not call",
                "force-app/main/default/permissionsets/Portal_Operator.permissionset-meta.xml",
                "<apexClass>OrderProvisioningController</apexClass>",
                "<apexClass>OrderProvisioningJob</apexClass>",
                "OrderProvisioningController: Portal_Operator has no access",
            ),
            Plant(
                "a principal there is not",
                "force-app/main/default/permissionsets/Portal_Callout.permissionset-meta.xml",
                "Portal_Webhook-Portal",
                "Portal_Webhook-Principal",
                "there is no principal Portal_Webhook-Principal",
            ),
            Plant(
                "a value that Visualforce can't read",
                f"{CLASSES}/OrderProvisioningListController.cls",
                "public Order record { get; private set; }",
                "public Order record;",
                "can't read row.record",
            ),
            Plant(
                "a component that stays after the uninstall",
                "uninstall/1-code/destructiveChanges.xml",
                "        <members>OrderProvisioningLog</members>\n",
                "",
                "uninstall/ forgets ApexClass OrderProvisioningLog",
            ),
            Plant(
                "a status without its test",
                f"{CLASSES}/OrderProvisioningJobTest.cls",
                "portal.answer(425, '');",
                "portal.answer(408, '');",
                "no test has the portal answer 425",
            ),
            Plant(
                "a test that asserts another outcome than the class decides",
                f"{CLASSES}/OrderProvisioningAnswer.cls",
                "if (status >= 500) {",
                "if (status >= 600) {",
                "status503IsTriedAgain: the class decides REFUSED",
            ),
            Plant(
                "the customer's list of statuses in the default folder",
                "force-app/main/default/standardValueSets/OrderStatus.standardValueSet-meta.xml",
                None,
                '<?xml version="1.0" encoding="UTF-8"?>\n'
                '<StandardValueSet xmlns="http://soap.sforce.com/2006/04/metadata"><sorted>false</sorted></StandardValueSet>\n',
                "standardValueSets is the customer's",
            ),
            Plant(
                "an error code that nobody explains",
                f"{CLASSES}/OrderProvisioningFinalizer.cls",
                "'REQUEST_INTERRUPTED'",
                "'JOB_ENDED'",
                "nothing to say about JOB_ENDED",
            ),
            Plant(
                "a registry's address in the lock file",
                "package-lock.json",
                '    "lockfileVersion"',
                '    "resolved": "https://registry.example",\n    "lockfileVersion"',
                "names the addresses of a registry",
            ),
        ),
    ),
    Check(
        "lwc-lint",
        "components follow Salesforce's rules (ESLint)",
        lwc_lint,
        (
            Plant(
                "HTML put in as text",
                f"{LWC}/provisioningStatus/provisioningStatus.js",
                "    disconnectedCallback() {",
                "    renderedCallback() {\n        this.template.querySelector('p').innerHTML = this.hint;\n    }\n\n"
                "    disconnectedCallback() {",
                "no-inner-html",
            ),
            Plant(
                "a name nobody uses",
                f"{LWC}/provisionInWhmcs/provisionInWhmcs.js",
                "const running = new Set();",
                "const running = new Set();\nconst unused = 1;",
                "no-unused-vars",
            ),
        ),
    ),
    Check(
        "lwc-tests",
        "components do what their tests say (Jest)",
        lwc_tests,
        (
            Plant(
                "no guard against the double click",
                f"{LWC}/provisionInWhmcs/provisionInWhmcs.js",
                "if (running.has(orderId)) {",
                "if (running.has('nothing')) {",
                "● c-provision-in-whmcs › sends one request for a double click",
            ),
            Plant(
                "reading the order for ever",
                f"{LWC}/provisioningStatus/provisioningStatus.js",
                "|| this.watched >= LONGEST_WATCH",
                "",
                "● c-provisioning-status › reads an order on its way again",
            ),
        ),
    ),
    Check(
        "installer",
        "the install script does and says the right thing in every state of an org (node --test)",
        installer,
        (
            Plant(
                "the secret as an argument",
                "bin/install.mjs",
                "'--body', '-'],",
                "'--body', JSON.stringify(body)],",
                "✖ the secret is never an argument",
            ),
        ),
    ),
)
