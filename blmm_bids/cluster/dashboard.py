"""dask's dashboard, made when somebody first looks at it: that takes longer than to start the scheduler."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from tornado.web import Application

if TYPE_CHECKING:
    from distributed import LocalCluster

LOGGER = logging.getLogger(__name__)


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


def await_dashboard(cluster: LocalCluster) -> str | None:
    """Have the dashboard of a cluster that was started without one made at the first visit.

    Returns
    -------
    str or None
        Where it will be; None where the scheduler serves no pages.
    """
    from blmm_bids.cluster.dask_runner import dashboard_address

    scheduler: Any = cluster.scheduler
    scheduler.http_application.add_application(_AwaitedDashboard(scheduler))
    return dashboard_address(cluster)
