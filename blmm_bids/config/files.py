"""Read the files that say what to do: model specs and filter files, JSON or YAML."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from blmm_bids.config.bounded_yaml import load_bounded_yaml
from blmm_bids.design.spec import ModelSpec, parse_model_spec
from blmm_bids.errors import MissingInputError, ModelSpecError
from blmm_bids.regular_files import read_at_most

# A spec is a page of text; this stops a file that is something else, or an alias bomb's source.
LARGEST = 10_000_000


def read_model_spec(path: Path) -> ModelSpec:
    """Read a BIDS Stats Models file.

    Parameters
    ----------
    path : Path
        ``.json``, or ``.yaml``/``.yml`` with the same keys.

    Raises
    ------
    MissingInputError
        The file does not exist or cannot be read.
    ModelSpecError
        It is not JSON or YAML, or not a model spec.
    """
    content = read_mapping(path, "model spec")
    try:
        return parse_model_spec(content)
    except ModelSpecError as error:
        msg = f"{path.name}: {error}"
        raise ModelSpecError(msg) from error


def read_mapping(path: Path, what: str) -> Mapping[str, Any]:
    """Read a JSON or YAML object.

    Parameters
    ----------
    path : Path
    what : str
        What the file should be, for messages.

    Raises
    ------
    MissingInputError, ModelSpecError
        See `read_model_spec`.
    """
    try:
        content = read_at_most(path, LARGEST + 1)
    except OSError as error:
        msg = f"the {what} {path} cannot be read: {error.strerror}; give the path of a JSON or YAML file"
        raise MissingInputError(msg) from error
    if len(content) > LARGEST:
        msg = f"{path}: more than {LARGEST / 1e6:.0f} MB is too large for a {what}; is it the right file?"
        raise ModelSpecError(msg)
    try:
        text = content.decode("utf-8-sig")
        value = json.loads(text) if path.suffix.lower() == ".json" else load_bounded_yaml(text)
    except (ValueError, yaml.YAMLError, RecursionError) as error:
        msg = f"{path}: not a {what}: {_reason(error)}"
        raise ModelSpecError(msg) from error
    if not isinstance(value, dict):
        msg = f"{path}: a {what} is a mapping of keys to values; this is a {type(value).__name__}"
        raise ModelSpecError(msg)
    return value


def _reason(error: Exception) -> str:
    """One line of what a parser says."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    return " ".join(str(error).split())
