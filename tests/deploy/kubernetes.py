"""deploy/kubernetes without a cluster: put together by kubectl, held against Kubernetes' schemas, and for hardening."""

from __future__ import annotations

import re
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.deploy.tools import BIN, assignments, run, said, tool, unknown_variables

#: kubectl's own schemas; the oldest version that still gets fixes, and the newest.
VERSIONS = ("1.34", "1.37")


def kustomizations(root: Path) -> list[Path]:
    """The folders that `kubectl apply -k` is told."""
    return [
        path.parent
        for path in sorted((root / "deploy" / "kubernetes").rglob("kustomization.yaml"))
        if "kind: Kustomization" in path.read_text(encoding="utf-8")
    ]


@dataclass(frozen=True)
class Built:
    """What a kustomization comes to: what kubectl and the schemas say against it, and its objects."""

    faults: list[str]
    objects: list[Any]


@cache
def build(folder: Path) -> Built:
    """Put a kustomization together and hold it against the schemas; once, however many files are part of it."""
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(scratch) / "built.yaml"
        argv: list[str | Path] = [tool("kubectl", "requirements-dev.txt"), "kustomize", folder, "--output", built]
        outcome = run(argv, env={"PATH": "/usr/bin:/bin", "HOME": scratch})
        if outcome.returncode or outcome.stdout.strip():
            return Built(said(outcome) or [outcome.stdout.strip()], [])
        validate: list[str | Path] = [BIN / "python", BIN / "kubernetes-validate", "--strict", "--no-warn"]
        faults = [fault for version in VERSIONS for fault in said(run([*validate, "-k", version, built]))]
        return Built(faults, list(YAML(typ="safe").load_all(built)))


def folders_of(path: Path, root: Path) -> list[Path]:
    """The kustomizations that a file is part of."""
    own = [folder for folder in kustomizations(root) if path.parent == folder]
    return own or kustomizations(root)


def schemas(path: Path, root: Path, _scratch: Path) -> list[str]:
    """What the file is part of can be put together, fits the schemas, and has the file's own objects in it."""
    faults: list[str] = []
    for folder in folders_of(path, root):
        built = build(folder)
        faults += built.faults
        if not built.faults and path.suffix == ".yaml" and path.name != "kustomization.yaml":
            missing = names(YAML(typ="safe").load_all(path)) - names(built.objects)
            faults += [f"{kind} {name} is in no kustomization" for kind, name in sorted(missing)]
    return faults


def hardening(path: Path, root: Path, _scratch: Path) -> list[str]:
    """Each of the file's pods may do little and gets what its settings name; each Deployment has a budget."""
    if path.suffix == ".env":
        return _same_names(path, root)
    faults: list[str] = []
    objects: list[Any] = []
    for folder in folders_of(path, root):
        faults += build(folder).faults
        objects += build(folder).objects
    mine = set() if path.name == "kustomization.yaml" else names(YAML(typ="safe").load_all(path))
    config = {each["metadata"]["name"]: each["data"] for each in objects if each["kind"] == "ConfigMap"}
    for each in objects:
        if (each["kind"], each["metadata"]["name"]) in mine and each["kind"] in ("Deployment", "Job"):
            faults += _pod(each, config, root)
            if each["kind"] == "Deployment":
                faults += _budget(each, objects)
    return faults


def names(objects: Any) -> set[tuple[str, str]]:
    """(kind, name) of each."""
    return {(str(each["kind"]), str(each["metadata"]["name"])) for each in objects}


def _same_names(path: Path, root: Path) -> list[str]:
    """The settings are those of .env.example: none forgotten, none of another spelling."""
    here = set(assignments(path.read_text(encoding="utf-8")))
    example = set(assignments((root / ".env.example").read_text(encoding="utf-8")))
    return [f"{name} is in .env.example and not here" for name in sorted(example - here)] + unknown_variables(
        here, root
    )


def _pod(workload: Any, config: Any, root: Path) -> list[str]:
    name = workload["metadata"]["name"]
    pod = workload["spec"]["template"]["spec"]
    faults = []
    if pod["securityContext"].get("runAsNonRoot") is not True or not pod["securityContext"].get("runAsUser"):
        faults.append(f"{name} may run as root")
    if pod.get("automountServiceAccountToken") is not False:
        faults.append(f"{name} is handed a token for Kubernetes")
    if pod.get("enableServiceLinks") is not False:
        faults.append(f"{name} gets variables of services, which may look like misspelt settings")
    for container in pod["containers"]:
        hard = {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        context = container.get("securityContext", {})
        faults += [f"{name}: {key} must be {value}" for key, value in hard.items() if context.get(key) != value]
        if "memory" not in container.get("resources", {}).get("limits", {}):
            faults.append(f"{name} has no limit for its memory")
        environ = {
            key: value
            for source in container["envFrom"]
            for key, value in config[source["configMapRef"]["name"]].items()
        }
        environ |= {each["name"]: each.get("value", "") for each in container.get("env", [])}
        faults += [f"{name}: {fault}" for fault in unknown_variables(set(environ), root)]
        mounts = {each["mountPath"] for each in container["volumeMounts"]}
        faults += [
            f"{name}: {key} names a file in no mounted folder"
            for key, value in environ.items()
            if (key.endswith("_FILE") or key == "SF_PRIVATE_KEY_PATH") and value.rpartition("/")[0] not in mounts
        ]
        if "/tmp" not in mounts:
            faults.append(f"{name} has no /tmp to write to")
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "ports" in container and kind not in container:
                faults.append(f"{name} has no {kind}")
            where = container.get(kind, {}).get("httpGet", {}).get("path")
            routes = re.findall(r"`GET (/health\S*)`", (root / "docs" / "http.md").read_text(encoding="utf-8"))
            if where is not None and where not in routes:
                faults.append(f"{name}: {kind} asks {where}, which isn't a route")
    return faults


def _budget(deployment: Any, objects: list[Any]) -> list[str]:
    """A PodDisruptionBudget that means this Deployment's pods and lets at least one go."""
    name, labels = deployment["metadata"]["name"], deployment["spec"]["template"]["metadata"]["labels"]
    meant = [
        each["spec"]
        for each in objects
        if each["kind"] == "PodDisruptionBudget"
        and each["spec"]["selector"]["matchLabels"].items() <= labels.items()
        and len(each["spec"]["selector"]["matchLabels"]) == len(labels)
    ]
    if len(meant) != 1:
        return [f"{name} has {len(meant)} budgets"]
    if meant[0]["minAvailable"] >= deployment["spec"]["replicas"]:
        return [f"{name}: with {deployment['spec']['replicas']} replicas no node could ever be drained"]
    return []
