"""``make bench``: every benchmark but the large ones in turn, or those named, with their usual sizes."""

from __future__ import annotations

import argparse
from importlib import import_module

NAMES = ("engine", "startup", "head_to_head", "methods", "calibration", "coverage")
# Only where named: it writes some 10 GB and takes most of an hour.
LARGE = ("whole_run",)
ALL = (*NAMES, *LARGE)
SCALED = ("engine", "head_to_head", "methods")
# Sizes of the tables in the docs, where they are not the usual ones.
FOR_DOCS = {"calibration": ("--voxels", "50000", "--lmertest", "1000")}


def main() -> int:
    """Run benchmarks one after the other, since they would disturb each other's times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", default=NAMES, metavar="NAME", help=f"of {', '.join(ALL)}")
    parser.add_argument("--scale", default="1", help="times the voxels of the timed ones (default 1)")
    parser.add_argument("--docs", action="store_true", help="put the tables into docs/ too")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.names) - set(ALL))
    if unknown:
        parser.error(f"no benchmark is named {', '.join(unknown)}; there are {', '.join(ALL)}")
    for name in arguments.names:
        options = ["--scale", arguments.scale] if name in SCALED else []
        if arguments.docs:
            options += ["--docs", *FOR_DOCS.get(name, ())]
        print(f"\n== {name}\n", flush=True)
        import_module(f"benchmarks.{name}").main(options)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
