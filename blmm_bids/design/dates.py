"""Dates as numbers of days."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from blmm_bids.design.columns import is_categorical
from blmm_bids.errors import ModelSpecError

DAYS_OF_A_YEAR = 365.25
_TIME_ALONE = re.compile(r"\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?")
# Zones of a day's parts may have no colon, and days no zero: Python's reader wants both.
_SHORT = re.compile(r"(\d{4})[-/](\d{1,2})[-/](\d{1,2})(.*)")


def day_numbers(column: pd.Series, function: str) -> NDArray[np.float64]:
    """Days since the calendar's first, fractions included.

    Parameters
    ----------
    column : Series
        Dates or times as BIDS writes them: ``2019-03-01``, ``2019-03-01T13:45:00.000``, with or without a
        zone.
    function : str
        Whose argument it is, for messages.

    Raises
    ------
    ModelSpecError
        A value is no date, or some have a zone and others do not.
    """
    if not is_categorical(column):
        msg = f"'{column.name}' holds numbers; {function}() takes dates such as 2019-03-01"
        raise ModelSpecError(msg)
    text = column.astype(str)
    moments = {word: _moment(word, str(column.name), function) for word in text.unique()}
    zoned = [word for word, moment in moments.items() if moment.tzinfo is not None]
    if zoned and len(zoned) < len(moments):
        bare = next(word for word, moment in moments.items() if moment.tzinfo is None)
        msg = (
            f"'{column.name}' holds times with a zone ('{zoned[0]}') and without ('{bare}'); write "
            f"them alike for {function}()"
        )
        raise ModelSpecError(msg)
    numbers = {word: _number(moment) for word, moment in moments.items()}
    return text.map(numbers).to_numpy(dtype=np.float64)


def _moment(word: str, name: str, function: str) -> datetime:
    text = word.strip()
    if found := _SHORT.fullmatch(text):
        year, month, day, rest = found.groups()
        text = f"{year}-{int(month):02d}-{int(day):02d}{rest}"
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        only = "a time of day without its date" if _TIME_ALONE.fullmatch(text) else "no date"
        msg = (
            f"'{name}' has '{word}', {only}; {function}() takes dates as BIDS writes them: 2019-03-01 or "
            "2019-03-01T13:45:00"
        )
        raise ModelSpecError(msg) from error


def _number(moment: datetime) -> float:
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC).replace(tzinfo=None)
    midnight = datetime.combine(date.min, datetime.min.time())
    return (moment - midnight) / timedelta(days=1)
