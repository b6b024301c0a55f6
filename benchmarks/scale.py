"""What runs of any size take on disk and in memory, by the app's own arithmetic."""

from __future__ import annotations

import numpy as np

from benchmarks.scans import N_VISITS
from benchmarks.simulate import make_term
from blmm_bids.cluster import ClusterOptions, local_resources, parse_memory
from blmm_bids.images.blocks import WorkPlan, WorkSize, plan_work
from blmm_bids.images.reader import MissingRule
from blmm_bids.stages import Problem, result_bytes
from blmm_bids.stats.model import Contrast, Design, FitOptions
from blmm_bids.stats.plan import make_plan

ITEMSIZE = 4


def work_ahead(n_images: int, n_voxels: int, shape: str, mem: str, n_procs: int) -> WorkPlan:
    """Cut a run with a random intercept a subject as the app would.

    Parameters
    ----------
    n_images, n_voxels : int
        Images, four a subject, and candidates for the mask.
    shape : str
        Voxels along each axis of an image.
    mem : str
        As for ``--mem``.
    n_procs : int
        Worker processes.
    """
    rng = np.random.default_rng(0)
    subject = np.arange(n_images) // N_VISITS
    covariates = rng.normal(size=(n_images, 3))
    X = np.column_stack([np.ones(n_images), covariates])
    design = Design(X, ("Intercept", "time", "age", "sex"), (make_term("subject", subject),))
    contrasts = (Contrast("time", np.eye(4)[1:2], "t"), Contrast("any", np.eye(4)[2:], "F"))
    problem = Problem(design, contrasts, FitOptions(), (), (), None, MissingRule(), 1)
    plan = make_plan(design)
    resources = local_resources(ClusterOptions(n_procs=n_procs, mem_bytes=parse_memory(mem)))
    stored = ITEMSIZE * int(np.prod([int(n) for n in shape.split("x")]))
    size = WorkSize(n_images, n_voxels, ITEMSIZE, stored, result_bytes(problem, plan))
    return plan_work(size, resources.bytes_per_worker - plan.work_bytes, n_procs)


def worker_bytes(work: WorkPlan) -> int:
    """Peak of a worker that the app expects."""
    return max(work.gather_bytes, work.fit_bytes)
