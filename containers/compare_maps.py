"""Compare the maps of two output datasets bit for bit: ``compare_maps.py OUTPUT_DIR OUTPUT_DIR``."""

from __future__ import annotations

import sys
from pathlib import Path

import nibabel as nib
import numpy as np


def differing_maps(first: Path, second: Path) -> tuple[list[str], int]:
    """List the maps that differ or that one side lacks; and how many maps there are."""
    names = {path.relative_to(root).as_posix() for root in (first, second) for path in root.rglob("*.nii.gz")}
    return [name for name in sorted(names) if not _same(first / name, second / name)], len(names)


def _same(first: Path, second: Path) -> bool:
    if not (first.is_file() and second.is_file()):
        return False
    values = [np.asanyarray(nib.load(path).dataobj) for path in (first, second)]
    return values[0].dtype == values[1].dtype and values[0].tobytes() == values[1].tobytes()


def main() -> int:
    """Print the comparison; 1 if something differs or nothing is there."""
    first, second = (Path(argument) for argument in sys.argv[1:])
    different, n_maps = differing_maps(first, second)
    for name in different:
        sys.stdout.write(f"differs: {name}\n")
    sys.stdout.write(f"{n_maps - len(different)} of {n_maps} maps are equal bit for bit\n")
    return 1 if different or not n_maps else 0


if __name__ == "__main__":
    raise SystemExit(main())
