"""The process that workers on this machine are copies of, so that what they import is imported once.

Linux only; elsewhere each worker starts from nothing, which takes longer and gives the same results.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import contextmanager, suppress
from multiprocessing import forkserver, set_forkserver_preload
from typing import TYPE_CHECKING, Any

from blmm_bids.cluster.worker_environment import WORKER_ENVIRONMENT
from blmm_bids.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from blmm_bids.cluster.options import ClusterOptions

# Before, anybody on the machine could have the server start a process (CVE-2022-42919).
_FIRST_SAFE_PYTHON = (3, 11, 1)


@contextmanager
def started_forkserver(options: ClusterOptions) -> Iterator[bool]:
    """Start the process, which imports ``options.preload``, until the context ends; once, if nested.

    The earlier it is entered, the more of the imports overlaps with what else there is to do.

    Parameters
    ----------
    options : ClusterOptions
        Whether, and on what, there will be workers here.

    Yields
    ------
    bool
        Whether workers can be copied from it.
    """
    if not _is_wanted(options):
        yield False
        return
    server: Any = forkserver._forkserver
    is_outermost = server._forkserver_pid is None
    try:
        set_forkserver_preload(list(options.preload))
        with _worker_environment():
            forkserver.ensure_running()
    except OSError:
        # No directory for its socket, or no room for one more process: workers do without.
        yield False
        return
    try:
        yield True
    finally:
        if is_outermost:
            # By now its copies are gone; it may still be importing.
            with suppress(OSError):
                os.kill(server._forkserver_pid, signal.SIGKILL)
            server._stop()


def _is_wanted(options: ClusterOptions) -> bool:
    from blmm_bids.cluster.options import local_resources

    if not options.preload or options.backend != "local" or sys.platform != "linux":
        return False
    if sys.flags.ignore_environment:
        return False  # nor would the server look at what is set for it
    try:
        return sys.version_info >= _FIRST_SAFE_PYTHON and local_resources(options).n_workers > 1
    except UsageError:
        return False  # whoever opens the cluster says why


@contextmanager
def _worker_environment() -> Iterator[None]:
    """Set what processes look at when they start; the user's own settings win."""
    before = dict(os.environ)
    os.environ.update(WORKER_ENVIRONMENT | before)
    # What is imported there must be what is imported here: nothing from the current directory, and no other
    # copy of this package.
    os.environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
