"""numba's files of a compiled kernel, which neither damage nor a full disk turn into the end of a run."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from typing import Any

from numba.core.caching import IndexDataCacheFile

LOGGER = logging.getLogger(__name__)


class KernelFiles(IndexDataCacheFile):
    """The index of one kernel, and its compiled versions."""

    has_failed = False

    def load(self, key: Any) -> Any:  # noqa: ANN401
        """Load a version; one that cannot be is compiled anew."""
        try:
            return super().load(key)  # type: ignore[no-untyped-call]
        except Exception as error:  # unpickling other bytes raises anything
            LOGGER.debug("%s is damaged and made anew: %r", self._index_path, error)
            # Without the index no version is found, and each is written again.
            with suppress(OSError):
                os.unlink(self._index_path)  # noqa: PTH108
            return None

    def save(self, key: Any, data: Any) -> None:  # noqa: ANN401
        """Keep a version; where that fails, this process has it all the same."""
        try:
            super().save(key, data)  # type: ignore[no-untyped-call]
        except OSError as error:
            if not KernelFiles.has_failed:
                LOGGER.warning(
                    "compiled kernels cannot be kept in %s (%s): each process compiles its own, as will the "
                    "next run. Make room there, or name another folder in NUMBA_CACHE_DIR",
                    self._cache_path,
                    error.strerror or error,
                )
            KernelFiles.has_failed = True


def guard_files(dispatcher: Any) -> Any:  # noqa: ANN401
    """Give a kernel that numba caches these files."""
    cache = dispatcher._cache
    cache._cache_file = KernelFiles(  # type: ignore[no-untyped-call]
        cache_path=cache._cache_path,
        filename_base=cache._impl.filename_base,
        source_stamp=cache._impl.locator.get_source_stamp(),
    )
    return dispatcher
