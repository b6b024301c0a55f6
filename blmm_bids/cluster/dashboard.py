"""dask's dashboard: pages without a password, so only where somebody asks for them, and then who sees them.

A local scheduler's is made when somebody first looks at it: that takes longer than to start the scheduler.
"""

from __future__ import annotations

import logging
import socket
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

from tornado.web import Application

from blmm_bids.cluster.site import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Mapping

    from distributed import LocalCluster, SpecCluster

LOGGER = logging.getLogger(__name__)
_SEEN_HERE = "who has an account on this machine can look at it"
# dask's HTTP server always listens; without these it has nothing to tell.
_NO_PAGES: dict[str, Any] = {"distributed.scheduler.http.routes": []}


def dashboard_settings(given: Mapping[str, Any], *, asked: bool) -> dict[str, Any]:
    """Arguments of dask's scheduler about its pages, which listen on the loopback unless a host is named.

    Parameters
    ----------
    given : Mapping
        What the user's file says of the scheduler.
    asked : bool
        Whether the command line asks for the dashboard.
    """
    address = given.get("dashboard_address")
    is_shown = given.get("dashboard", asked or address is not None)
    if not is_shown:
        return {"dashboard": False, "dashboard_address": f"{LOOPBACK}:0"}
    host, _, port = str(address or "").rpartition(":")
    host = host.rpartition("//")[2].strip("[]")
    return {"dashboard": True, "dashboard_address": f"{host or LOOPBACK}:{port or 0}"}


def pages(*, shown: bool) -> dict[str, Any]:
    """Give dask's configuration for a scheduler that is about to start: its pages, or none at all."""
    return {} if shown else _NO_PAGES


def dashboard_address(cluster: SpecCluster) -> str:
    """Where the dashboard of a scheduler in this process is; says who can look at it."""
    scheduler: Any = cluster.scheduler
    server = scheduler.http_server
    try:
        is_private = ip_address(server.address).is_loopback
    except ValueError:
        is_private = False
    if is_private:
        LOGGER.info("the dashboard has no password: %s", _SEEN_HERE)
        return f"http://{LOOPBACK}:{server.port}/status"
    host = server.address if server.address not in ("0.0.0.0", "::") else socket.gethostname()  # noqa: S104
    LOGGER.warning(
        "the dashboard has no password, and whoever reaches port %d of this machine can look at it; without "
        "a host in dashboard_address (':%d') only users of this machine can",
        server.port,
        server.port,
    )
    return f"http://{host}:{server.port}/status"


class _AwaitedDashboard(Application):
    """Has no page of its own; asked for one that the scheduler does not have, it adds the dashboard's."""

    def __init__(self, scheduler: Any) -> None:  # noqa: ANN401
        super().__init__()
        self._scheduler = scheduler
        self._is_made = False

    def find_handler(self, request: object, **kwargs: object) -> None:  # type: ignore[override] # noqa: ARG002
        """Make the dashboard, which the scheduler asks next, and leave the request to it."""
        if self._is_made:
            return
        self._is_made = True
        try:
            from distributed.dashboard.scheduler import connect
        except ImportError as error:
            LOGGER.warning("the dashboard cannot be shown: %s", error)
            return
        connect(self._scheduler.http_application, self._scheduler.http_server, self._scheduler, prefix="")


def await_dashboard(cluster: LocalCluster) -> str:
    """Have the dashboard of a cluster that was started without one made at the first visit; its address."""
    scheduler: Any = cluster.scheduler
    scheduler.http_application.add_application(_AwaitedDashboard(scheduler))
    return dashboard_address(cluster)
