"""Errors a user can act on, each with the exit code of the BIDS execution specification.

A message says what is wrong, where, what was wanted and what to do next. Only errors of this
tree reach the user without a traceback; anything else is a bug of ours.
"""

from __future__ import annotations

# Of a message on a terminal.
MOST_LINES = 30
MOST_CHARACTERS = 2_500


class BlmmError(Exception):
    """Base of all errors that the user sees as one message.

    Attributes
    ----------
    exit_code : int
        The process's exit code when this error ends the run.
    """

    exit_code = 1


def bounded(text: str, more: str) -> str:
    """Cut out the middle of a message that is longer than a screen.

    Parameters
    ----------
    text : str
    more : str
        Where the whole of it is.
    """
    lines = text.split("\n")
    if len(lines) > MOST_LINES:
        first, last = MOST_LINES - 8, 6
        n_left = len(lines) - first - last
        lines = [*lines[:first], f"[... {n_left} lines left out; {more}]", *lines[-last:]]
    text = "\n".join(lines)
    if len(text) > MOST_CHARACTERS:
        # What to do stands at the end.
        first, last = MOST_CHARACTERS - 700, 600
        text = f"{text[:first]} [... {len(text) - first - last} characters left out; {more}] {text[-last:]}"
    return text


class InvalidBIDSError(BlmmError):
    """The dataset is not a BIDS dataset, or one of its own files breaks the standard."""

    exit_code = 16


class LevelError(BlmmError):
    """The analysis level on the command line is not one that this app has."""

    exit_code = 17


class NoMatchError(BlmmError):
    """The filters matched nothing."""

    exit_code = 18


class UsageError(BlmmError):
    """The command line or an option's value is wrong."""

    exit_code = 64


class ModelSpecError(UsageError):
    """The model spec, a formula, a contrast or a config file is wrong."""


class UnknownVariableError(ModelSpecError):
    """A model uses a variable that no table has.

    Attributes
    ----------
    variable : str
        Name as the model has it.
    """

    def __init__(self, message: str, variable: str) -> None:
        super().__init__(message)
        self.variable = variable


class DataError(BlmmError):
    """The data cannot be used: shapes, affines, unreadable images, a rank-deficient design."""

    exit_code = 65


class MissingInputError(BlmmError):
    """A file or directory that was named does not exist or cannot be read."""

    exit_code = 66


class OutputError(BlmmError):
    """An output or working directory cannot be created."""

    exit_code = 73


class StorageError(BlmmError):
    """Reading or writing failed in the middle: disk full, quota, a truncated part."""

    exit_code = 74


class TemporaryError(BlmmError):
    """Workers were lost or the walltime ended; running the same command again resumes."""

    exit_code = 75


class BusyError(BlmmError):
    """Another run is at work in the same directory: running again at once does not help."""

    exit_code = 69


class ExhaustedError(TemporaryError):
    """An item killed one worker after the other, most often for want of memory: it may be cut smaller."""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM arrived, as it does before a walltime ends; not an Exception, so that nothing swallows it.

    Attributes
    ----------
    exit_code : int
        That of `TemporaryError`: running the same command again resumes.
    """

    exit_code = TemporaryError.exit_code
