"""Fields of a config file: which are known, which are missing, and where messages say that they are."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from blmm_bids.config.text_files import path_beside
from blmm_bids.errors import ModelSpecError

T = TypeVar("T")
D = TypeVar("D")

MEANING = {
    "Y_files": "a text file with one image a line",
    "X": "a CSV file of the fixed-effects design, one row an image and no header",
    "outdir": "the directory that the maps go to",
    "contrasts": "a list of c1, c2, ... with name and vector; '[]' for none",
    "name": "the factor's name",
    "factor": "a CSV file with the level of each image, no header",
    "design": "a CSV file of the factor's design, one row an image and no header",
    "vector": "a list of weights, one a column of X (T), or a list of such lists (F)",
}


class Fields:
    """The fields of one mapping of a config file.

    Parameters
    ----------
    file : Path
        The config file; paths are relative to its directory.
    values : Mapping
        The fields.
    prefix : str
        What messages put before a field's name: where in the file the mapping is.
    lenient : bool
        Pass over unknown fields.
    """

    def __init__(
        self, file: Path, values: Mapping[str, Any], prefix: str = "", *, lenient: bool = False
    ) -> None:
        self.file, self.values, self.prefix, self.lenient = file, values, prefix, lenient

    def error(self, name: str, reason: str) -> ModelSpecError:
        """Make the error that says where and what."""
        return ModelSpecError(f"{self.file}: {self.prefix}{name} {reason}")

    def refuse_unknown(self, known: Sequence[str], ignored: Sequence[str] = ()) -> None:
        """Raise at the first field that is neither known nor ignored, naming the nearest."""
        for name in self.values:
            if self.lenient or name in known or name in ignored:
                continue
            by_small = {candidate.lower(): candidate for candidate in known}
            near = difflib.get_close_matches(str(name).lower(), by_small, n=1, cutoff=0.5)
            hint = f"did you mean '{by_small[near[0]]}'?" if near else f"known are {', '.join(known)}"
            raise self.error(f"'{name}'", f"is not a field of the config; {hint}")

    def require(self, name: str) -> None:
        """Raise where a field is absent or empty."""
        if self.values.get(name) is None:
            state = "is empty" if name in self.values else "is missing"
            raise self.error(f"'{name}'", f"{state}; it is required: {MEANING[name]}")

    def read(self, name: str, parse: Callable[[object], T], default: D) -> T | D:
        """Read an optional field; empty is as good as absent."""
        value = self.values.get(name)
        if value is None:
            return default
        try:
            return parse(value)
        except ValueError as error:
            raise self.error(f"'{name}: {shown(value)}'", f"{error}") from None

    def path(self, name: str) -> Path | None:
        """Absolute path of an optional field."""
        value = self.values.get(name)
        if value is None or value == "":
            return None
        if isinstance(value, bool | list | dict) or "\0" in str(value):
            raise self.error(f"'{name}: {shown(value)}'", "is not a path")
        return path_beside(self.file, str(value))

    def required_path(self, name: str) -> Path:
        """Absolute path of a field that must be there."""
        self.require(name)
        path = self.path(name)
        if path is None:
            raise self.error(f"'{name}'", f"is empty; it is required: {MEANING[name]}")
        return path


def shown(value: object) -> str:
    """Write a value as a message quotes it, cut to a line."""
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
