"""Holds the metadata files against the types of Salesforce's Metadata API (the WSDL that simple-salesforce ships).

`sf project convert source` checks names, folders and suffixes, but no element; this checks elements, their order and
the values of enumerations. The WSDL is of API 63, the project of a later one: nothing here is newer than that.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path

import simple_salesforce
from lxml import etree

XSD = "http://www.w3.org/2001/XMLSchema"
NS = "http://soap.sforce.com/2006/04/metadata"
FOLDERS = ("force-app", "signing-apex", "scratch", "optional", "external-client-app")


def files_of(project: Path) -> list[Path]:
    """Every metadata file of the project."""
    return sorted(path for folder in FOLDERS for path in (project / folder).rglob("*-meta.xml"))


def schema() -> etree.XMLSchema:
    """The WSDL's types, with an element for each of them that can be a file's root."""
    wsdl = etree.parse(str(Path(simple_salesforce.__file__).parent / "metadata.wsdl"))
    types = next(each for each in wsdl.iter(f"{{{XSD}}}schema") if each.get("targetNamespace") == NS)
    made = etree.Element(f"{{{XSD}}}schema", nsmap={"xsd": XSD, "tns": NS}, **dict(types.attrib))
    made.extend(copy.deepcopy(each) for each in types if isinstance(each.tag, str))
    known = {each.get("name") for each in made.iter(f"{{{XSD}}}element") if each.getparent() is made}
    for each in list(made.iter(f"{{{XSD}}}complexType")):
        name = each.get("name")
        extends = [base.get("base") for base in each.iter(f"{{{XSD}}}extension")]
        if name and name not in known and extends and extends[0] in ("tns:Metadata", "tns:MetadataWithContent"):
            etree.SubElement(made, f"{{{XSD}}}element", name=name, type=f"tns:{name}")
    return etree.XMLSchema(made)


def faults(project: Path) -> Iterator[str]:
    """What is wrong with which file."""
    types = schema()
    checked = files_of(project)
    if not checked:
        yield "there are no metadata files"
    for path in checked:
        name = path.relative_to(project)
        try:
            tree = etree.parse(str(path))
        except etree.XMLSyntaxError as error:
            yield f"{name}: {error}"
            continue
        for each in list(tree.iter(f"{{{NS}}}targetConfigs")):
            each.getparent().remove(each)  # component targets; the WSDL has them as opaque bytes
        if not types.validate(tree):
            for error in types.error_log:
                yield f"{name}:{error.line} {error.message.replace(f'{{{NS}}}', '')}"
