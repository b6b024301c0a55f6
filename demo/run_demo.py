"""``make demo``: make a dataset, run the app on it as a user does, compare with what was planted."""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import time
from pathlib import Path

from demo import brain, compare, dataset

HERE = Path(__file__).resolve().parent
APP = HERE.parent / "bids_app_run.py"
MODEL = HERE / "model.json"
NODE = "growth"
MARKER = ".blmm-demo"


def clear_directory(root: Path) -> None:
    """Empty the demo's directory, or make it; one that the demo did not make is left alone.

    Raises
    ------
    SystemExit
        The directory holds something else.
    """
    if root.exists() and any(root.iterdir()) and not (root / MARKER).is_file():
        sys.exit(f"{root} holds files that the demo did not make; name another directory or empty it")
    if root.exists():
        shutil.rmtree(root)
    root.mkdir(parents=True)
    (root / MARKER).touch()


def write_inputs(root: Path) -> None:
    """Write the dataset, and the planted effects as maps to look at beside the results."""
    subjects = dataset.write_dataset(root / "dataset")
    (root / "planted").mkdir()
    for column, effect in brain.planted_effects(dataset.COLUMNS).items():
        label = "".join(character for character in column if character.isalnum())
        dataset.write_volume(root / "planted" / f"param-{label}_statmap.nii.gz", effect)
    n_images = sum(len(subject.times) for subject in subjects)
    print(f"{root / 'dataset'}: {len(subjects)} subjects, {n_images} images")


def run_app(root: Path) -> None:
    """Start the app in a process of its own, with the command that is printed.

    Raises
    ------
    SystemExit
        With the app's exit code where it fails.
    """
    command = [sys.executable, str(APP), str(root / "dataset"), str(root / "results"), "group"]
    command += ["--model", str(MODEL), "--work-dir", str(root / "work")]
    print("$", " ".join(["bids_app_run.py", *command[2:]]), flush=True)
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(done.returncode)


def print_comparison(root: Path) -> bool:
    """Say where the results are and how near the estimates come; True if all are near enough."""
    node_dir = root / "results" / f"node-{NODE}"
    estimates = compare.read_estimates(node_dir, dataset.COLUMNS)
    rows = compare.compare_voxels(estimates, dataset.COLUMNS)
    print(f"\n{compare.format_table(rows)}\n")
    for column, planted in brain.planted_effects(dataset.COLUMNS).items():
        share = compare.coverage(estimates, column, planted)
        print(f"{column}: the 95 % interval holds the planted value at {share:.1%} of all voxels")
    print(f"\nmaps    {node_dir}\nreport  {node_dir.with_suffix('.html')}\nplanted {root / 'planted'}")
    return all(row.is_close for row in rows)


def main() -> int:
    """Run the demo; 1 if an estimate is more than four standard errors from the truth."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "directory", type=Path, help="where to write; emptied first if an earlier demo made it"
    )
    root = parser.parse_args().directory.resolve()
    start = time.perf_counter()
    clear_directory(root)
    write_inputs(root)
    run_app(root)
    is_close = print_comparison(root)
    print(f"{time.perf_counter() - start:.0f} s in all")
    return 0 if is_close else 1


if __name__ == "__main__":
    raise SystemExit(main())
