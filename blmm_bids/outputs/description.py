"""What the output dataset says of itself: description, README, settings and model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from blmm_bids.bids.names import to_label
from blmm_bids.images.content import content_identities
from blmm_bids.outputs.files import json_text, write_json, write_text
from blmm_bids.outputs.ownership import SOFTWARE
from blmm_bids.outputs.uris import source_names

if TYPE_CHECKING:
    from blmm_bids.outputs.records import RunOutputs

BIDS_VERSION = "1.11.1"

# No trailing slashes: with one, the validator ignores what is inside but not the directory itself.
_IGNORED = ("node-*", "figures", "*.html")

# Of the model's name in a file name, which file systems bound.
_LABEL_LENGTH = 200

_CONTAINER_VARIABLES = {
    "APPTAINER_CONTAINER": "apptainer",
    "SINGULARITY_CONTAINER": "singularity",
    "BLMM_CONTAINER": "docker",
}

_README = """\
# {name}

Linear mixed models fitted at every voxel by {software} {version}.
{description}{models}
- `node-<Name>.html`: start here: what was fitted, to which images, and how the fits ended.
- `node-<Name>/`: the maps of one model (`stat` says what a map holds, `param` and `contrast` of what), each
  with a JSON sidecar that has the exact names, the units and the method; `*_design.tsv` are the design,
  its random part, the images used and not used, and the contrasts.
- `node-<Name>/*_clusters.tsv`: peaks and clusters of each contrast.
- `code/`: the model as it was run. `logs/`: the settings, the log, and text for a methods section.

In every map voxels outside the analysis mask are 0 and voxels inside it without an answer are NaN;
`stat-status` says why.
"""


@dataclass(frozen=True)
class Neighbours:
    """What a run finds in OUTPUT_DIR and leaves as it is.

    Attributes
    ----------
    description : Mapping
        ``dataset_description.json`` as it was; empty where no other model is there.
    models : tuple of (str, str, str)
        Label, node and formula of each of the other fits.
    taken : frozenset of str
        Files of other models, below the dataset's root.
    foreign : frozenset of str
        Files that no run of this software wrote.
    images : Mapping
        Identity of some images of the other models, by place in their dataset.
    """

    description: Mapping[str, Any] = field(default_factory=dict)
    models: tuple[tuple[str, str, str], ...] = ()
    taken: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()
    images: Mapping[str, str] = field(default_factory=dict)


NOBODY = Neighbours()


def description_files(neighbours: Neighbours = NOBODY) -> list[str]:
    """Files at the root that a run may write."""
    return [
        name
        for name in ("dataset_description.json", ".bidsignore", "README")
        if name not in neighbours.foreign
    ]


def write_description(
    run: RunOutputs, models: Sequence[tuple[str, str, str]] = (), neighbours: Neighbours = NOBODY
) -> list[Path]:
    """Write the files at the root of the output dataset, but those that are another's.

    Parameters
    ----------
    run : RunOutputs
        The run.
    models : sequence of (str, str, str)
        Label, node and formula of each of its fits.
    neighbours : Neighbours
        What else is there.

    Returns
    -------
    list of Path
        The files written.
    """
    root = run.output_dir
    listed = sorted(dict.fromkeys([*neighbours.models, *models]))
    lines = "".join(f"- `node-{label}`: {node}, `{formula}`\n" for label, node, formula in listed)
    described = dataset_description(run, neighbours.description)
    readme = _README.format(
        name=described["Name"],
        software=SOFTWARE,
        version=run.version,
        description=f"\n{run.description}\n" if run.description else "",
        models=f"\nModels:\n\n{lines}" if lines else "",
    )
    texts = {
        "dataset_description.json": json_text(described),
        ".bidsignore": "".join(f"{line}\n" for line in _IGNORED),
        "README": readme,
    }
    return [write_text(root / name, texts[name]) for name in description_files(neighbours)]


def model_files(run: RunOutputs, neighbours: Neighbours = NOBODY) -> tuple[str, str]:
    """Name the files of a run's settings and model spec, beside those of other models and other hands."""
    label = to_label(run.name)[:_LABEL_LENGTH]
    not_free = {name.casefold() for name in (*neighbours.taken, *neighbours.foreign)}
    for number in chain([""], map(str, count(2))):
        pair = f"logs/settings{number}.json", f"code/model-{label}{number}_smdl.json"
        if not any(name.casefold() in not_free for name in pair):
            return pair
    raise AssertionError


def write_model_files(run: RunOutputs, neighbours: Neighbours = NOBODY) -> list[Path]:
    """Write the settings and the model spec of a run."""
    settings, code = model_files(run, neighbours)
    return [
        write_json(run.output_dir / settings, run.settings),
        write_json(run.output_dir / code, run.model_spec),
    ]


def dataset_description(run: RunOutputs, earlier: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Content of ``dataset_description.json``.

    Parameters
    ----------
    run : RunOutputs
        The run.
    earlier : Mapping, optional
        That of the dataset which the run adds a model to.
    """
    before = earlier or {}
    generated_by: dict[str, Any] = {
        "Name": SOFTWARE,
        "Version": run.version,
        "Description": "Linear mixed models at every voxel",
    }
    container = container_entry(run.environment)
    if container:
        generated_by["Container"] = container
    sources = source_names(run.sources)
    names = [name for name in str(before.get("Name") or "").split(", ") if name]
    entries = [_source_entry(root, run.output_dir) for root in sources.values()]
    return {
        "Name": ", ".join(dict.fromkeys([*names, run.name])),
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": _joined(before.get("GeneratedBy"), [generated_by]),
        "SourceDatasets": _joined(before.get("SourceDatasets"), entries),
        "DatasetLinks": {
            **links_of(before),
            **{name: _link(root, run.output_dir) for name, root in sources.items()},
        },
    }


def _joined(before: object, now: list[dict[str, Any]]) -> list[Any]:
    entries = [each for each in before if isinstance(each, dict)] if isinstance(before, list) else []
    return [*(each for each in entries if each not in now), *now]


def links_of(description: Mapping[str, Any]) -> dict[str, str]:
    """``DatasetLinks`` of a description that may hold anything."""
    links = description.get("DatasetLinks")
    found = links.items() if isinstance(links, dict) else ()
    return {name: link for name, link in found if isinstance(link, str)}


def distinct_sources(
    sources: Mapping[str, Path], output_dir: Path, neighbours: Neighbours
) -> dict[str, Path]:
    """Name the datasets so that no other model's URIs come to mean another one.

    A dataset with the images of the other models is theirs, wherever it lies now: in a container it does not
    lie where it lies outside.
    """
    links = links_of(neighbours.description)
    found: dict[str, Path] = {}
    for plain, root in source_names(sources).items():
        name, number = plain, 1
        while links.get(name, _link(root, output_dir)) != _link(root, output_dir) and not _has_images(
            root, neighbours.images
        ):
            number += 1
            name = f"{plain}{number}"
        found[name] = root
    return found


def _has_images(root: Path, images: Mapping[str, str]) -> bool:
    there = {root / name: identity for name, identity in images.items() if (root / name).is_file()}
    return bool(there) and content_identities(list(there)) == there


def container_entry(environment: Mapping[str, str]) -> dict[str, str]:
    """Which container the run was in, empty outside of one.

    Apptainer names the image file; only its name is kept, since its directory is the user's. The Docker
    image sets ``BLMM_CONTAINER`` to its own tag.
    """
    for variable, kind in _CONTAINER_VARIABLES.items():
        value = environment.get(variable)
        if not value:
            continue
        if "://" in value:
            return {"Type": kind, "URI": value}
        return {"Type": kind, "Tag": PurePosixPath(value).name if value.startswith("/") else value}
    return {}


def _source_entry(root: Path, output_dir: Path) -> dict[str, str]:
    described = _read_description(root)
    entry = {}
    doi = described.get("DatasetDOI")
    if isinstance(doi, str) and doi:
        entry["DOI"] = doi
    else:
        entry["URL"] = _link(root, output_dir)
    version = described.get("DatasetVersion", described.get("Version"))
    if isinstance(version, str) and version:
        entry["Version"] = version
    return entry


def _read_description(root: Path) -> dict[str, Any]:
    # The bids room has judged this file already; here it can only add detail.
    try:
        content = json.loads((root / "dataset_description.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _link(root: Path, output_dir: Path) -> str:
    # Relative, so that the link still holds when both datasets are moved together.
    return quote(Path(os.path.relpath(root, output_dir)).as_posix())
