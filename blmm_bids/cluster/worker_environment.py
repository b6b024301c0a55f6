"""Environment variables of a worker process, which it looks at when it starts."""

# One worker is one processor: threads of numerical libraries would only compete.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "BLIS_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    # dask's own setting hands every few MB back to the system at once, only to fault them in again for
    # the next image: twice the processor time. These are glibc's limits, without their slow start.
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": str(64 * 2**20),
}
