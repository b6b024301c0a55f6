"""``python -m blmm_bids``."""

from blmm_bids.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
