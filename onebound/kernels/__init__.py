"""Numba kernels: arrays in, arrays out, no torch. Each has a plain-Python twin in `tests/kernels`."""
