"""The Boutiques descriptor of the BIDS App, made from its command-line parser.

Identifiers of inputs are those of the BIDS execution specification (draft 0.0.1) where it has one. What
argparse knows of an option (help, type, choices, number of values, group) is taken over as it is.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from blmm_bids import __version__
from blmm_bids.errors import BlmmError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

Entry = dict[str, Any]

COMMAND = "blmm-bids"
# Names that the execution specification gives to what argparse has under another one.
_SPECIFIED = {
    "bids_dir": "InputDataset",
    "output_dir": "OutputLocation",
    "participant_label": "SubjectLabel",
    "help": "Help",
    "version": "ToolVersion",
}
# Paths that a run makes: a platform that takes them for files of the user's would ask for them beforehand.
_MADE = frozenset({"output_dir", "work_dir", "bids_database_dir", "scheduler_file"})
# What a run needs one of. argparse is not told: to rebuild reports, and to print help, neither is needed.
_EITHER = (("Model", "Formula"),)
_FAILURE = "The run failed for a reason that has no code of its own, or one of several fits did."
_OUTPUTS = (
    ("OutputDataset", "Output dataset", "BIDS derivative dataset.", "", False),
    ("Description", "Dataset description", "Absent after --dry-run.", "dataset_description.json", True),
    ("Reports", "Reports", "One page for each node of the model.", "node-*.html", True),
    ("Maps", "Statistical maps", "Each has a JSON sidecar.", "node-*/*.nii.gz", True),
    ("Tables", "Designs", "Designs, contrasts, and the images used or not.", "node-*/*.tsv", True),
    ("Log", "Log", "What the run said.", "logs/blmm_bids.log", True),
)  # fmt: skip
# The demo's dataset and model, as ``make demo`` leaves them.
EXAMPLE: Entry = {
    "InputDataset": "demo-out/dataset",
    "OutputLocation": "demo-out/boutiques",
    "AnalysisLevel": "group",
    "Model": "demo/model.json",
    "Contrast": ["perYear=12*time", "sexes=sex[T.M]"],
    "Nprocs": 2,
    "Mem": "4G",
}


class PrintDescriptor(argparse.Action):
    """An option that prints the descriptor of its parser and ends the process."""

    def __init__(self, option_strings: Sequence[str], dest: str) -> None:
        super().__init__(option_strings, dest, nargs=0, help="print the Boutiques descriptor and exit")

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> NoReturn:
        """Print and exit."""
        sys.stdout.write(descriptor_text(parser))
        sys.exit(0)


def descriptor_text(parser: argparse.ArgumentParser) -> str:
    """JSON of `make_descriptor`, the same for the same parser."""
    return json.dumps(make_descriptor(parser), indent=4, ensure_ascii=False) + "\n"


def make_descriptor(parser: argparse.ArgumentParser) -> Entry:
    """Describe the app to Boutiques (schema 0.5).

    Parameters
    ----------
    parser : argparse.ArgumentParser
        Of the app.

    Returns
    -------
    dict
        Content of the descriptor.
    """
    # argparse has no public way to ask a parser what is in it.
    groups = [
        (group.title or "options", list(_inputs(group._group_actions))) for group in parser._action_groups
    ]
    inputs = [entry for _, entries in groups for entry in entries]
    return {
        "name": "blmm_bids",
        "description": f"{parser.description} {parser.epilog or ''}".strip(),
        "author": "The blmm-bids developers",
        "tool-version": __version__,
        "schema-version": "0.5",
        "command-line": " ".join([COMMAND, *(entry["value-key"] for entry in inputs)]),
        "container-image": {"type": "docker", "image": f"{COMMAND}:{__version__}"},
        "inputs": inputs,
        "groups": [
            {"id": f"{_camel_case(title)}Group", "name": title.capitalize(), "members": _ids(entries)}
            for title, entries in groups
            if entries
        ]
        + _choices_of_inputs(parser, set(_ids(inputs))),
        "output-files": [_output(*output) for output in _OUTPUTS],
        "error-codes": [{"code": code, "description": text} for code, text in sorted(error_codes().items())],
        # A few hundred images of 2 mm; a run takes whatever it is given, and less.
        "suggested-resources": {"cpu-cores": 4, "ram": 8, "disk-space": 10, "walltime-estimate": 3600},
        "tags": {"domain": ["neuroinformatics", "statistics"], "bids-app": True},
        "tests": _tests(),
        "custom": {
            # The draft calls it by both names.
            "BIDSApplicationVersion": "0.0.1",
            "BIDSAppSpecVersion": "0.0.1",
            "OutputDataSpecification": ["BIDS-Derivatives"],
            "cbrain:author": "The blmm-bids developers",
            "cbrain:readonly-input-files": True,
            "cbrain:integrator_modules": {"BoutiquesFileTypeVerifier": {"InputDataset": ["BidsDataset"]}},
        },
    }


def error_codes() -> dict[int, str]:
    """Sentence of each exit code that an error of this app has."""
    codes = {BlmmError.exit_code: _FAILURE}
    waiting = BlmmError.__subclasses__()
    while waiting:
        kind = waiting.pop(0)
        # A code that an error shares with its base means what the base says.
        codes.setdefault(kind.exit_code, " ".join((kind.__doc__ or "").split("\n\n")[0].split()))
        waiting += kind.__subclasses__()
    return codes


def _inputs(actions: list[argparse.Action]) -> Iterator[Entry]:
    for action in actions:
        if action.help != argparse.SUPPRESS and not isinstance(action, PrintDescriptor):
            yield _input(action)


def _choices_of_inputs(parser: argparse.ArgumentParser, known: set[str]) -> list[Entry]:
    """Make groups of inputs of which one can be given, or has to be."""
    found = {
        tuple(_ids(_inputs(group._group_actions))): group.required
        for group in parser._mutually_exclusive_groups
    }
    found |= {members: True for members in _EITHER if known.issuperset(members)}
    return [_exclusive(list(members), required=required) for members, required in found.items()]


def _exclusive(members: list[str], *, required: bool) -> Entry:
    rules = {"mutually-exclusive": True, **({"one-is-required": True} if required else {})}
    return {"id": "".join(members) + "Choice", "name": " or ".join(members), "members": members, **rules}


def _ids(inputs: Iterable[Entry]) -> list[str]:
    return [entry["id"] for entry in inputs]


def _input(action: argparse.Action) -> Entry:
    """One input of the descriptor."""
    identifier = _SPECIFIED.get(action.dest) or _camel_case(action.dest)
    flag = next((name for name in action.option_strings if name.startswith("--")), None)
    if isinstance(action, argparse.BooleanOptionalAction) and action.default:
        # What can be said is to leave it out.
        flag = next(name for name in action.option_strings if name.startswith("--no-"))
        identifier = f"No{identifier}"
    entry: Entry = {
        "id": identifier,
        "name": (flag or action.dest).lstrip("-").replace("-", " ").replace("_", " "),
        "description": (action.help or "") % {**vars(action), "prog": COMMAND},
        "type": _type(action),
        "value-key": f"[{identifier}]",
        "optional": bool(action.option_strings) and not action.required,
    }
    if flag:
        entry["command-line-flag"] = flag
    if entry["type"] == "Number" and action.type is int:
        entry["integer"] = True
    choices = _choices(action)
    if choices:
        entry["value-choices"] = choices
    if _takes_several(action):
        entry["list"] = True
        if action.nargs is None:
            # One value each time: the flag comes again before each of them.
            entry["list-separator"] = f" {flag} "
    return entry


def _type(action: argparse.Action) -> str:
    if action.nargs == 0 or isinstance(action, argparse.BooleanOptionalAction):
        return "Flag"
    if action.type in (int, float):
        return "Number"
    return "File" if action.type is Path and action.dest not in _MADE else "String"


def _choices(action: argparse.Action) -> list[Any]:
    """Values that an option takes; a metavar in braces says them where the app itself checks."""
    if action.choices is not None:
        return list(action.choices)
    metavar = action.metavar if isinstance(action.metavar, str) else ""
    return metavar[1:-1].split(",") if metavar.startswith("{") and metavar.endswith("}") else []


def _takes_several(action: argparse.Action) -> bool:
    repeated = isinstance(action, argparse._AppendAction)
    return repeated or action.nargs in ("+", "*") or (isinstance(action.nargs, int) and action.nargs > 1)


def _output(identifier: str, name: str, description: str, path: str, optional: bool) -> Entry:  # noqa: FBT001
    template = f"[OutputLocation]/{path}" if path else "[OutputLocation]"
    entry: Entry = {"id": identifier, "name": name, "description": description, "path-template": template}
    return {**entry, "optional": optional, "list": "*" in path}


def _tests() -> list[Entry]:
    """Cases for ``bosh test``; they need what ``make demo`` leaves."""
    # It looks for a file of the very name of the template: no wildcards.
    files = [{"id": identifier} for identifier, *_, path, _ in _OUTPUTS if "*" not in path]
    unknown = {key: value for key, value in EXAMPLE.items() if key not in ("Model", "Contrast")}
    return [
        {
            "name": "example",
            "invocation": EXAMPLE,
            "assertions": {"exit-code": 0, "output-files": files},
        },
        {
            "name": "unknown variable",
            "invocation": {**unknown, "Formula": "1 + nosuchcolumn + (1 | subject)"},
            "assertions": {"exit-code": 64},
        },
    ]


def _camel_case(name: str) -> str:
    return "".join(
        word[:1].upper() + word[1:] for word in name.replace("-", "_").replace(" ", "_").split("_")
    )
