"""What the output dataset says of itself: description, README, settings and model."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from blmm_bids.bids.names import to_label
from blmm_bids.outputs.files import write_json, write_text
from blmm_bids.outputs.uris import source_names

if TYPE_CHECKING:
    from blmm_bids.outputs.records import RunOutputs

BIDS_VERSION = "1.11.1"
SOFTWARE = "blmm_bids"

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
{description}
- `node-<Name>.html`: start here: what was fitted, to which images, and how the fits ended.
- `node-<Name>/`: the maps of one model (`stat` says what a map holds, `param` and `contrast` of what), each
  with a JSON sidecar that has the exact names, the units and the method; `*_design.tsv` are the design,
  its random part, the images used and not used, and the contrasts.
- `node-<Name>/*_clusters.tsv`: peaks and clusters of each contrast.
- `code/`: the model as it was run. `logs/`: the settings, the log, and text for a methods section.

In every map voxels outside the analysis mask are 0 and voxels inside it without an answer are NaN;
`stat-status` says why.
"""


def write_description(run: RunOutputs) -> list[Path]:
    """Write the files at the root of the output dataset, ``logs/`` and ``code/``.

    Parameters
    ----------
    run : RunOutputs
        The run.

    Returns
    -------
    list of Path
        The files written.
    """
    root = run.output_dir
    description = f"\n{run.description}\n" if run.description else ""
    readme = _README.format(name=run.name, software=SOFTWARE, version=run.version, description=description)
    return [
        write_json(root / "dataset_description.json", dataset_description(run)),
        write_text(root / ".bidsignore", "".join(f"{line}\n" for line in _IGNORED)),
        write_text(root / "README", readme),
        write_json(root / "logs" / "settings.json", run.settings),
        write_json(root / "code" / f"model-{to_label(run.name)[:_LABEL_LENGTH]}_smdl.json", run.model_spec),
    ]


def dataset_description(run: RunOutputs) -> dict[str, Any]:
    """Content of ``dataset_description.json``."""
    generated_by: dict[str, Any] = {
        "Name": SOFTWARE,
        "Version": run.version,
        "Description": "Linear mixed models at every voxel",
    }
    container = container_entry(run.environment)
    if container:
        generated_by["Container"] = container
    sources = source_names(run.sources)
    return {
        "Name": run.name,
        "BIDSVersion": BIDS_VERSION,
        "DatasetType": "derivative",
        "GeneratedBy": [generated_by],
        "SourceDatasets": [_source_entry(root, run.output_dir) for root in sources.values()],
        "DatasetLinks": {name: _link(root, run.output_dir) for name, root in sources.items()},
    }


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
