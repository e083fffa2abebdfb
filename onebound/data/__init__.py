"""From files to tables: readers, and the one data set that travels inside the package."""

from dataclasses import replace
from importlib import resources

from onebound.data.arrow_reader import table_from
from onebound.data.readers import read_table
from onebound.data.stream import TableStream, open_stream
from onebound.data.table import Column, Table
from onebound.data.transforms import rebinarized

__all__ = ["Column", "Table", "TableStream", "old_faithful", "open_stream", "read_table", "rebinarized", "table_from"]


def old_faithful() -> Table:
    """272 eruptions of the Old Faithful geyser: duration and waiting time to the next one, both in minutes.

    Source: Azzalini and Bowman (1990), A look at some data on the Old Faithful geyser, Applied Statistics 39,
    357–365; as the data set `faithful` of R.

    >>> old_faithful().values.shape
    (272, 2)
    """
    with resources.as_file(resources.files("onebound.data") / "old_faithful.csv") as path:
        return replace(read_table(path, kinds={"waiting": "real"}), path="old_faithful")
