#!/usr/bin/env python3
"""Entry point of the BIDS App; the same as the installed command ``blmm-bids``."""

from __future__ import annotations

from blmm_bids.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
