"""The floor of the whole run: a pool of processes that reads each image as anybody would, and no more.

`python -m benchmarks.plain_loop LIST N_PROCESSES` prints seconds, without the start of the processes.
"""

from __future__ import annotations

import multiprocessing
import sys
import time
from pathlib import Path

import nibabel as nib
import numpy as np


def read_plainly(path: str) -> int:
    """Read one image; its voxels."""
    return int(np.asanyarray(nib.load(path).dataobj).size)  # type: ignore[attr-defined]


def main() -> int:
    """Read all images of a list."""
    paths = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    n_procs = int(sys.argv[2])
    with multiprocessing.Pool(n_procs) as pool:
        pool.map(read_plainly, paths[:n_procs], chunksize=1)
        start = time.perf_counter()
        for _ in pool.imap_unordered(read_plainly, paths, chunksize=4):
            pass
        print(time.perf_counter() - start)
        pool.close()
        pool.join()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
