"""Run the BIDS validator on the input, where the user asks for it."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
from pathlib import Path

from blmm_bids.errors import InvalidBIDSError, MissingInputError

LOGGER = logging.getLogger(__name__)
VALIDATOR = "bids-validator-deno"


def validate_input(bids_dir: Path) -> None:
    """Run ``bids-validator-deno`` on a dataset.

    Raises
    ------
    InvalidBIDSError
        It found an error.
    MissingInputError
        It is not installed.
    """
    program = shutil.which(VALIDATOR) or shutil.which(VALIDATOR, path=str(Path(sys.executable).parent))
    if program is None:
        msg = (
            f"--validate needs {VALIDATOR}, which is not installed: pip install {VALIDATOR}, or leave "
            "--validate out"
        )
        raise MissingInputError(msg)
    done = subprocess.run([program, str(bids_dir)], capture_output=True, text=True, check=False)  # noqa: S603
    LOGGER.debug("%s", done.stdout)
    if done.returncode != 0:
        found = (done.stdout or done.stderr).strip()
        msg = f"{bids_dir} has BIDS errors:\n{found}\nMend them, or leave --validate out"
        raise InvalidBIDSError(msg)
