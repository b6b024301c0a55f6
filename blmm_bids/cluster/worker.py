"""Worker process of a job: ``python -m blmm_bids.cluster.worker SCHEDULER [options of dask worker]``."""

from __future__ import annotations

import os
import sys

import dask.config

from blmm_bids.cluster.dask_config import DASK_CONFIG
from blmm_bids.cluster.worker_environment import WORKER_ENVIRONMENT

if __name__ == "__main__":
    os.environ.update(WORKER_ENVIRONMENT)
    dask.config.set(DASK_CONFIG)
    from distributed.cli.dask_worker import main

    main(args=sys.argv[1:], prog_name="blmm_bids worker")
