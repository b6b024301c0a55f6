"""BIDS URIs of the files that went in and came out."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from blmm_bids.bids.names import bids_uri

# The empty name of a BIDS URI is the dataset that it is written in; the main input needs another.
MAIN_SOURCE = "source"


def source_names(sources: Mapping[str, Path]) -> dict[str, Path]:
    """Datasets by the name that their URIs carry: `sources` with a name for the unnamed one."""
    main = MAIN_SOURCE
    while main in sources:
        main += "Main"
    return {name or main: root for name, root in sources.items()}


def input_uri(path: Path, sources: Mapping[str, Path]) -> str:
    """BIDS URI of an input file; its bare name where it is in none of the datasets.

    A dataset inside another one (derivatives in a raw dataset) is the one named.
    """
    roots = [(name, root) for name, root in source_names(sources).items() if path.is_relative_to(root)]
    if not roots:
        return path.name
    name, root = max(roots, key=lambda item: len(item[1].parts))
    return bids_uri(path, root, name)


def output_uri(path: Path, output_dir: Path) -> str:
    """BIDS URI of a file of the output dataset."""
    return bids_uri(path, output_dir)
