"""Compiled kernels: the only place that knows numba.

Every kernel works on ``lanes``: voxels side by side as the last, contiguous axis, so that the
inner loop is vector arithmetic and no voxel's bits depend on its neighbours. Kernels allocate
nothing in their loops and never raise; outcomes are codes.
"""

from blmm_bids.stats.kernels.prebuilt import choose_processor

choose_processor()
