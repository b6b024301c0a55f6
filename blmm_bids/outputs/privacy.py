"""Paths of the user's machine, kept out of what may be shared: they name people, projects and hosts."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# An absolute path of two or more parts; blanks end it, for in running text nothing else does.
_ABSOLUTE = re.compile(r"(?<![\w./~…])/(?:[^\s/'\"`,;:()<>]+/)+(?=[^\s/'\"`,;:()<>])")


@dataclass(frozen=True)
class Places:
    """Directories with a name of their own.

    Attributes
    ----------
    names : mapping of str to Path
        Name (``OUTPUT_DIR``) to absolute directory.
    """

    names: Mapping[str, Path]

    def hide(self, text: str) -> str:
        """Put names in the place of directories; of other absolute paths the last part alone stays."""
        # The longest first, for one may lie inside another.
        known = sorted(self.names.items(), key=lambda item: len(str(item[1])), reverse=True)
        for name, path in known:
            if len(path.parts) > 1:
                text = re.sub(re.escape(str(path)) + r"(?![\w.-])", name, text)
        return _ABSOLUTE.sub("…/", text)

    def hide_arguments(self, arguments: Sequence[str]) -> tuple[str, ...]:
        """Hide the paths of a command line, argument by argument."""
        return tuple(self._hide_argument(argument) for argument in arguments)

    def _hide_argument(self, argument: str) -> str:
        option, equals, value = argument.rpartition("=") if argument.startswith("-") else ("", "", argument)
        if not value.startswith("/"):
            return f"{option}{equals}{self.hide(value)}"
        path = Path(value)
        for name, place in sorted(self.names.items(), key=lambda item: len(str(item[1])), reverse=True):
            if len(place.parts) > 1 and path.is_relative_to(place):
                return f"{option}{equals}{Path(name) / path.relative_to(place)}"
        return f"{option}{equals}…/{path.name}"
