"""What fails once the maps are there: said, and never at their cost."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

from blmm_bids.errors import BlmmError, StorageError, TemporaryError

LOGGER = logging.getLogger(__name__)
Result = TypeVar("Result")


@dataclass
class Troubles:
    """What went wrong after the fits of a run.

    Attributes
    ----------
    texts : list of str
        A line each.
    """

    texts: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything went wrong."""
        return bool(self.texts)

    def spare(self, what: str, make: Callable[[], Result]) -> Result | None:
        """Make something of the results; where that fails, say so and go on without it.

        Raises
        ------
        TemporaryError, StorageError
            These say themselves that the same command continues.
        """
        try:
            return make()
        except (TemporaryError, StorageError):
            raise
        except Exception as error:
            text = str(error) if isinstance(error, BlmmError) else f"{type(error).__name__}: {error}"
            self.texts.append(f"{what}: {text}")
            LOGGER.error("%s failed: %s", what, text)
            LOGGER.debug("where it failed", exc_info=True)
            return None

    def report(self) -> None:
        """Say at the end what is missing, and how it is made good."""
        if self:
            LOGGER.error(
                "maps and results are complete and were kept, but not all that is made of them: %s. The same "
                "command with --reports-only makes tables of clusters and reports again; the command itself "
                "makes everything",
                "; ".join(self.texts),
            )
