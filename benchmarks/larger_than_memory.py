"""A parquet file of 2 GB, fitted from the shell: how much memory that takes above what the imports take, and how long.

    python benchmarks/larger_than_memory.py [--gigabytes 2] [--folder /tmp]

Writes benchmarks/larger_than_memory.md as it came out. The file is synthetic: 4 Gaussian clusters in 8 columns of float64.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

COLUMNS, CLUSTERS, ROWS_AT_ONCE = 8, 4, 1_000_000

# The peak is the process's own (VmHWM): getrusage's is inherited from the process that started it.
CHILD = """
import re, sys
from pathlib import Path
import numpy, torch, pyarrow.parquet, safetensors, rich.console
import onebound.algorithms, onebound.emissions, onebound.data, onebound.store, onebound.cli
from onebound.cli.summaries import show_fit
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024
before = peak()
try:
    onebound.cli.main(sys.argv[1:])
finally:
    print(f"peak above the imports: {peak() - before:.0f} MiB (imports: {before:.0f} MiB)")
"""


def write_file(path: Path, gigabytes: float) -> int:
    """A parquet file of that size; its rows."""
    rows = int(gigabytes * 1e9 / (8 * COLUMNS))
    generator = np.random.default_rng(0)
    centres = generator.normal(0.0, 4.0, (CLUSTERS, COLUMNS))
    schema = pa.schema([(f"x{d}", pa.float64()) for d in range(COLUMNS)])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as writer:
        for start in range(0, rows, ROWS_AT_ONCE):
            n = min(ROWS_AT_ONCE, rows - start)
            y = centres[generator.integers(0, CLUSTERS, n)] + generator.normal(size=(n, COLUMNS))
            writer.write_table(pa.table(list(y.T), schema=schema), row_group_size=ROWS_AT_ONCE)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder", default=None)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        path = Path(folder) / "large.parquet"
        rows = write_file(path, asked.gigabytes)
        size = path.stat().st_size / 1e9
        options = ["--components", str(CLUSTERS), "--max-iter", "5", "--tol", "0"]
        line = ["fit", "gaussian-mixture", str(path), *options, "-o", str(Path(folder) / "m.safetensors")]
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", CHILD, *line], capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise SystemExit(done.stderr)
    command = f"onebound fit gaussian-mixture large.parquet {' '.join(options)}"
    text = (
        f"# A file larger than memory\n\n`{command}` on {size:.2f} GB of parquet, {rows:,} × {COLUMNS} float64 "
        f"({platform.machine()}, 2 cores): {seconds:.0f} s in all.\n\n"
        f"{done.stdout.splitlines()[-1]}.\n\n```\n{done.stdout.split('Saved to')[0].strip()}\n```\n"
    ).replace(folder + "/", "")
    (Path(__file__).parent / "larger_than_memory.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
