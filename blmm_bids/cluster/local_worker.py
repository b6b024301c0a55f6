"""What dask imports in each worker process on this machine, before its first task."""

import distributed.nanny  # noqa: F401
