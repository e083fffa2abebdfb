"""What every test may count on: two threads at most, because the tests themselves run side by side."""

import os

# Before torch or numba is imported anywhere: two workers with two threads each would fight over two cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NUMBA_NUM_THREADS", "2")
