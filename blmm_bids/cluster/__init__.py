"""Run picklable functions on local processes or a cluster; the only room that knows dask."""

from blmm_bids.cluster.backends import BACKENDS, open_cluster, plan_cluster
from blmm_bids.cluster.forkserver import started_forkserver
from blmm_bids.cluster.memory import format_memory, parse_memory
from blmm_bids.cluster.options import ClusterOptions, LocalResources, local_resources, total_memory
from blmm_bids.cluster.runner import Runner, SynchronousRunner
from blmm_bids.cluster.usage import Usage, process_usage, total_usage

__all__ = [
    "BACKENDS",
    "ClusterOptions",
    "LocalResources",
    "Runner",
    "SynchronousRunner",
    "Usage",
    "format_memory",
    "local_resources",
    "open_cluster",
    "parse_memory",
    "plan_cluster",
    "process_usage",
    "started_forkserver",
    "total_memory",
    "total_usage",
]
