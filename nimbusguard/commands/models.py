"""`nimbusguard models`: list, show, verify, publish, promote and resolve versions."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson

from model_store.metadata import METADATA_FILE, Draft, Metadata, parse_document
from model_store.names import ALIASES, LATEST, MODEL_NAME
from model_store.packaged import packaged_store
from model_store.store import Candidate, Check, ModelStore, open_store
from model_store.verify import read_verified
from nimbusguard.contract.errors import ArtifactCorrupted, InvalidRequest
from nimbusguard.contract.fingerprint import FINGERPRINT

Answer = dict[str, Any]
_REFERENCE_HELP: Final = f"a version, {LATEST}, or an alias ({', '.join(ALIASES)})"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the verbs and their flags."""
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", help="path or s3:// address (default: the packaged store)")
    common.add_argument("--name", default=MODEL_NAME, help="the model (default: %(default)s)")
    common.add_argument("--json", action="store_true", help="print JSON instead of a table")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(name: str, summary: str) -> argparse.ArgumentParser:
        return verbs.add_parser(name, parents=[common], help=summary, description=summary)

    verb("list", "show every version")
    show = verb("show", "show the metadata of one version")
    show.add_argument("version", nargs="?", default="production", help=_REFERENCE_HELP)
    verify = verb("verify", "compare every file with its digest")
    verify.add_argument("version", nargs="?", help=f"{_REFERENCE_HELP}; default: all versions")
    resolve = verb("resolve", "say which version is meant and where it is")
    resolve.add_argument("version", help=_REFERENCE_HELP)
    promote = verb("promote", "point an alias to a version")
    promote.add_argument("version", help=_REFERENCE_HELP)
    promote.add_argument("--alias", choices=ALIASES, default=ALIASES[0])
    publish = verb("publish", "add a version from a folder; the network is run first")
    publish.add_argument("folder", type=Path, help="holds model.pt, model.onnx and metadata.json")
    publish.add_argument("--version", help="its number (default: the next free one)")
    publish.add_argument(
        "--force", metavar="REASON", help="publish without a passed gate; kept in the metadata"
    )


def run(args: argparse.Namespace) -> int:
    """Run one verb; exit status 0 if it did what was asked."""
    writes = args.verb in ("publish", "promote")
    if args.store is None and writes:
        message = (
            "the packaged store is replaced by every upgrade and is not written by default; "
            "name a store with --store"
        )
        raise InvalidRequest(message)
    store = packaged_store() if args.store is None else open_store(args.store)
    answer = _VERBS[args.verb](store, args)
    if args.json:
        sys.stdout.write(orjson.dumps(answer, option=orjson.OPT_INDENT_2).decode() + "\n")
    else:
        _print(args.verb, answer)
    return 1 if answer.get("corrupted") else 0


def _list(store: ModelStore, args: argparse.Namespace) -> Answer:
    aliases = store.aliases(args.name)
    versions: list[Answer] = []
    for version in store.versions(args.name):
        names = [alias for alias, target in aliases.items() if target == version]
        try:
            about = _summary(store.show(args.name, version))
        except ArtifactCorrupted as error:
            about = {"version": version, "error": str(error)}
        versions.append({**about, "aliases": names})
    return {"store": store.uri, "name": args.name, "versions": versions}


def _show(store: ModelStore, args: argparse.Namespace) -> Answer:
    metadata = store.show(args.name, args.version)
    return {"uri": store.version_uri(args.name, metadata.version), "metadata": metadata.to_json()}


def _verify(store: ModelStore, args: argparse.Namespace) -> Answer:
    if args.version is None:
        versions = store.versions(args.name)
    else:
        versions = [store.resolve(args.name, args.version)]
    rows: list[Answer] = []
    for version in versions:
        try:
            files = store.verify(args.name, version).metadata.files
        except ArtifactCorrupted as error:
            rows.append({"version": version, "sound": False, "error": str(error)})
        else:
            size = sum(record.size for record in files.values())
            rows.append({"version": version, "sound": True, "files": len(files), "bytes": size})
    broken = [row["version"] for row in rows if not row["sound"]]
    return {"store": store.uri, "name": args.name, "versions": rows, "corrupted": broken}


def _resolve(store: ModelStore, args: argparse.Namespace) -> Answer:
    version = store.resolve(args.name, args.version)
    return {"version": version, "uri": store.version_uri(args.name, version)}


def _promote(store: ModelStore, args: argparse.Namespace) -> Answer:
    version = store.resolve(args.name, args.version)
    previous = store.promote(args.name, args.alias, version)
    return {"alias": args.alias, "version": version, "previous": previous}


def _publish(store: ModelStore, args: argparse.Namespace) -> Answer:
    metadata = store.publish(
        _candidate(args.folder, args.name),
        _network_check(),
        # The command line is where the clock is read.
        now=datetime.now(UTC),  # noqa: TID251
        version=args.version,
        force_reason=args.force,
    )
    uri = store.version_uri(args.name, metadata.version)
    return {"version": metadata.version, "uri": uri, "metadata": metadata.to_json()}


_VERBS: Final = {
    "list": _list,
    "show": _show,
    "verify": _verify,
    "resolve": _resolve,
    "promote": _promote,
    "publish": _publish,
}


def _candidate(folder: Path, name: str) -> Candidate:
    """What lies in a folder: a trainer's draft, or a version copied from another store."""
    try:
        document = parse_document((folder / METADATA_FILE).read_bytes())
    except OSError as error:
        message = f"{METADATA_FILE}: expected a readable file in {folder}, got {error.strerror}"
        raise ArtifactCorrupted(message) from error
    draft = Draft.from_json(document)
    if draft.name != name:
        message = f"name: expected {name}, got {draft.name} in {METADATA_FILE}; give --name"
        raise InvalidRequest(message)
    if "files" in document:
        return Candidate(draft=draft, files=read_verified(folder).files)
    return Candidate.from_directory(folder, draft)


def _network_check() -> Check:
    """Running a network needs torch and onnxruntime, which the command itself does not."""
    try:
        from training.export import check_files
    except ModuleNotFoundError as error:
        message = (
            f"publish runs the network first and needs {error.name}; install nimbusguard[train]"
        )
        raise InvalidRequest(message) from error
    return check_files


def _summary(metadata: Metadata) -> Answer:
    return {
        "version": metadata.version,
        "created": metadata.to_json()["created"],
        "algorithm": metadata.training["algorithm"],
        "layers": list(metadata.network.layers),
        "gate": "passed" if metadata.gate_passed else "forced",
        "fingerprint": metadata.fingerprint,
        "compatible": metadata.fingerprint == FINGERPRINT,
    }


def _print(verb: str, answer: Answer) -> None:
    from rich.console import Console

    # A bracket in a message is no markup.
    console = Console(markup=False)
    if verb == "list":
        console.print(_version_table(answer))
    elif verb == "verify":
        for row in answer["versions"]:
            state = f"sound, {row['files']} files" if row["sound"] else row["error"]
            console.print(f"{answer['name']} version {row['version']}: {state}", soft_wrap=True)
    elif verb == "show":
        console.print(answer["uri"], soft_wrap=True, highlight=False)
        console.print(_metadata_table(answer["metadata"]))
    elif verb == "resolve":
        console.print(answer["uri"], soft_wrap=True, highlight=False)
    elif verb == "promote":
        before = answer["previous"] or "none"
        console.print(f"{answer['alias']}: version {answer['version']} (before: {before})")
    else:
        console.print(f"published {answer['uri']}", soft_wrap=True, highlight=False)


def _version_table(answer: Answer) -> Any:
    from rich.table import Table

    table = Table(title=f"{answer['name']} in {answer['store']}")
    for column in ("version", "aliases", "created", "trained by", "network", "gate", "contract"):
        table.add_column(column, overflow="fold")
    for row in answer["versions"]:
        aliases = ", ".join(row["aliases"])
        if "error" in row:
            table.add_row(row["version"], aliases, "", row["error"], "", "", "")
            continue
        layers = "-".join(str(width) for width in row["layers"])
        contract = "this" if row["compatible"] else "foreign"
        cells = (row["created"], row["algorithm"], layers, row["gate"], contract)
        table.add_row(row["version"], aliases, *cells)
    return table


def _metadata_table(metadata: Mapping[str, Any]) -> Any:
    """Everything but the two tables of the contract, which `nimbusguard schema` shows."""
    from rich.table import Table

    table = Table()
    table.add_column("field", overflow="fold")
    table.add_column("value", overflow="fold")
    for field, value in _flat(metadata):
        if not field.startswith(("features", "actions")):
            table.add_row(field, str(value))
    return table


def _flat(value: object, prefix: str = "") -> list[tuple[str, object]]:
    """Nested fields as dotted names."""
    if not isinstance(value, Mapping):
        return [(prefix, value)]
    return [
        row
        for key, inner in value.items()
        for row in _flat(inner, f"{prefix}.{key}" if prefix else str(key))
    ]
