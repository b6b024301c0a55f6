"""Linear mixed models at every voxel of a BIDS dataset."""

__version__ = "0.1.0"
