"""What an exact 0 is in an image, told by its name: a value, or nothing measured there.

One table for all kinds of maps. Maps of a statistic or of an intensity are 0 outside of the brain, where
there is nothing; shares, counts and sizes are 0 where there is none of what they measure, which is a value.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from blmm_bids.bids.names import parse_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from blmm_bids.bids.names import ParsedName

Zeros = Literal["missing", "data"]

_WORDS: Final[Mapping[str | None, Zeros]] = {"missing": "missing", "data": "data"}
_OUTSIDE: Final = "0 outside of the brain"
_SHARE: Final = "0 is none of the tissue or region"
_SIZE: Final = "0 is a size or a shape"
_COUNT: Final = "0 is a count"

# Suffix -> what 0 is, and why. Suffixes that are not here are of no known kind.
_SUFFIXES: Final[Mapping[str, tuple[Zeros, str]]] = {
    **dict.fromkeys(("probseg", "dseg", "mask", "roi"), ("data", _SHARE)),
    **dict.fromkeys(("thickness", "area", "volume", "curv", "curvature", "sulc"), ("data", _SIZE)),
    **dict.fromkeys(("statmap", "boldmap", "dwimap", "mimap", "cbf", "att", "abat"), ("missing", _OUTSIDE)),
    **dict.fromkeys(
        ("bold", "boldref", "cbv", "asl", "pet", "dwi", "dwiref", "T1w", "T2w", "FLAIR", "PDw", "T2starw"),
        ("missing", _OUTSIDE),
    ),
    **dict.fromkeys(
        ("T1map", "T2map", "T2starmap", "R1map", "R2map", "R2starmap", "PDmap", "MTRmap", "MTsat", "Chimap"),
        ("missing", _OUTSIDE),
    ),
}
# Labels of stat and param, and suffixes, that say what is measured.
_MEASURES: Final = frozenset(
    {"thickness", "area", "volume", "curv", "curvature", "sulc", "isovf", "tdi", "lesion", "wmh"}
)
_SHARES: Final = frozenset({"share", "proportion", "prevalence", "overlap", "probability"})
# Of a suffix that is not known, the label says whether the map is of a tissue.
_TISSUES: Final = frozenset({"gm", "wm", "csf", "cgm", "scgm", "wmh", "lesion"})
# Names that are not BIDS: SPM's and CAT12's segments; statistics of SPM and FSL.
_SEGMENT: Final = re.compile(r"(s[\d.]*)?(m0?w|mw|w|r)[cp][1-3]")
_STATISTIC: Final = re.compile(r"(con|beta|ess|spm[TF])_\d{4}|(var)?cope\d*\.|[tzf]stat\d*\.")


@dataclass(frozen=True)
class ZeroRule:
    """What 0 is in the images of one fit.

    Attributes
    ----------
    zeros : {"missing", "data"}
    why : str
        What was decided by, for the user.
    is_sure : bool
        False where the names do not say it.
    """

    zeros: Zeros
    why: str
    is_sure: bool = True

    @property
    def text(self) -> str:
        """One line for the log, the report and the table of inputs."""
        other = "data" if self.zeros == "missing" else "missing"
        taken = "count as missing" if self.zeros == "missing" else "are data"
        return f"zeros {taken}: {self.why}; --zeros {other} for otherwise"


def chosen_zeros(paths: Iterable[Path], option: str | None, spec: str | None) -> ZeroRule:
    """Decide what 0 is: the command line says it, else the model spec, else the images' names.

    Parameters
    ----------
    paths : iterable of Path
        Images of one fit.
    option, spec : {"auto", "missing", "data"} or None
        ``--zeros`` and the spec's ``Zeros``; None says nothing.
    """
    said = spec if option is None else option
    if said not in _WORDS:
        return zeros_of(paths)
    source = "Zeros in the model spec" if option is None else "--zeros"
    return ZeroRule(_WORDS[said], f"{source} says so")


def zeros_of(paths: Iterable[Path]) -> ZeroRule:
    """Tell by the names of a fit's images what 0 is; ``missing`` where they do not say it, or disagree."""
    kinds = Counter(_kind(path.name) for path in paths)
    meanings = {zeros for zeros, _, _ in kinds if zeros is not None}
    listed = ", ".join(dict.fromkeys(f"{what} ({why})" for _, what, why in kinds))
    if len(meanings) > 1:
        return ZeroRule("missing", f"the images are of several kinds: {listed}", is_sure=False)
    is_sure = all(zeros is not None for zeros, _, _ in kinds) and bool(kinds)
    if not is_sure:
        return ZeroRule("missing", listed, is_sure=False)
    return ZeroRule(meanings.pop(), listed)


def _kind(name: str) -> tuple[Zeros | None, str, str]:
    """Tell what 0 is, the kind of map, and why; None where the name does not say."""
    if _SEGMENT.match(name):
        return "data", "tissue segments of SPM or CAT12", _SHARE
    if _STATISTIC.match(name):
        return "missing", "maps of SPM or FSL", _OUTSIDE
    parsed = parse_name(name)
    if parsed is None:
        return None, "maps whose names do not follow BIDS", "of no kind that is known"
    return _measure(parsed) or _by_suffix(parsed)


def _measure(parsed: ParsedName) -> tuple[Zeros, str, str] | None:
    """Kind of a map that says that it counts, shares out or measures something."""
    said = {key: parsed.entities.get(key, "") for key in ("stat", "param", "desc")} | {
        "suffix": parsed.suffix
    }
    for key, label in said.items():
        word = label.casefold()
        what = f"{label} maps" if key == "suffix" else f"{key}-{label} maps"
        if "count" in word:
            return "data", what, _COUNT
        # A desc may name what was done (desc-lesion: masked by it) rather than what is shown.
        if key == "desc" and parsed.suffix in _SUFFIXES:
            continue
        if word in _SHARES:
            return "data", what, _SHARE
        if word in _MEASURES:
            return "data", what, _SIZE
    return None


def _by_suffix(parsed: ParsedName) -> tuple[Zeros | None, str, str]:
    known = _SUFFIXES.get(parsed.suffix)
    if known is not None:
        return known[0], f"{parsed.suffix} maps", known[1]
    label = parsed.entities.get("label", "")
    if label.casefold() in _TISSUES:
        return "data", f"label-{label} maps", _SHARE
    return None, f"{parsed.suffix} maps", "of no kind that is known"
