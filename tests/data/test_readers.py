"""Every file that is not what it should be is refused in one line that names the place and the cure."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from onebound.data import old_faithful, read_table
from onebound.errors import InputError

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


BAD_FILES = [
    ("empty.csv", b"", "the file is empty"),
    ("blank.csv", b"\n1,2\n", "first line is empty"),
    ("header.csv", b"a,b\n", "a header and no rows"),
    ("ragged.csv", b"a,b\n1,2\n3,4,5\n6\n", r"row 2 \(line 3\) has 3 cells, the header has 2 \(2 rows like this\)"),
    ("double.csv", b"a,b,a\n1,2,3\n", r"two columns are called 'a' \(columns 1 and 3\)"),
    ("unnamed.csv", b",a\n1,2\n", "column 1 has no name"),
    (
        "noheader.csv",
        b"1.5,2\n3,4\n",
        r"first row holds only numbers. No header line\? Add one that names the columns: c0,c1",
    ),
    ("picture.csv", PNG, "is called .csv but is a PNG picture"),
    ("binary.csv", bytes(range(256)), "is called .csv but is a binary file"),
    ("utf16.csv", "a,b\n1,2\n".encode("utf-16"), "is called .csv but is UTF-16 text"),
    ("latin.csv", "a,b\n1,é\n".encode("latin1"), "is not UTF-8 text"),
    ("latin_header.csv", "é,b\n1,2\n".encode("latin1"), "is not UTF-8 text"),
    ("text.npy", b"a,b\n1,2\n", "is called .npy but is not a NumPy array"),
    ("cut.npy", b"\x93NUMPY\x01\x00", "damaged or cut short"),
    ("plain.csv.gz", b"a,b\n1,2\n", "is called .csv.gz but is not gzip-compressed"),
    ("cut.csv.gz", gzip.compress(b"a,b\n" + b"1.23,4\n" * 9999)[:60], "damaged or cut short"),
    ("table.xlsx", b"PK\x03\x04", r"\.xlsx is not read. Give csv, tsv, jsonl, parquet"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD_FILES, ids=[case[0] for case in BAD_FILES])
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


BAD_ARRAYS = [
    (np.array([{"a": 1}], dtype=object), "Python objects"),
    (np.array(["a", "b"]), "real numbers, got an array of <U1"),
    (np.zeros((2, 2), dtype=complex), "real numbers, got an array of complex128"),
    (np.zeros((2, 3, 4)), r"3 dimensions \(2×3×4\)"),
    (np.array(3.0), r"0 dimensions \(a single number\)"),
    (np.zeros((0, 3)), "the array is empty"),
]


@pytest.mark.parametrize(("array", "message"), BAD_ARRAYS, ids=[case[1][:12] for case in BAD_ARRAYS])
def test_an_array_that_is_no_table_of_numbers_is_refused(tmp_path: Path, array: np.ndarray, message: str) -> None:
    np.save(tmp_path / "y.npy", array)
    with pytest.raises(InputError, match=message):
        read_table(tmp_path / "y.npy")


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    write(tmp_path, "faithful.csv", b"a\n1\n")
    with pytest.raises(InputError, match=r"no such file\. Did you mean faithful\.csv\?"):
        read_table(tmp_path / "faithfull.csv")
    with pytest.raises(InputError, match="there is no folder"):
        read_table(tmp_path / "nowhere" / "faithful.csv")
    with pytest.raises(InputError, match="is a folder"):
        read_table(tmp_path)


def test_a_csv_is_read_with_kinds_and_gaps(tmp_path: Path) -> None:
    table = read_table(
        write(
            tmp_path,
            "mixed.csv",
            b"\xef\xbb\xbflength,legs,alive,name,year\r\n1.5,4,1,cat,1990\r\nNA,2,0,,2001\r\n 2 ,nan,null,ant,1990\r\n",
        )
    )
    assert [column.kind for column in table.columns] == ["real", "count", "binary", "category", "real"]
    np.testing.assert_array_equal(table.values[:, 0], [1.5, np.nan, 2.0])
    np.testing.assert_array_equal(table.values[:, 3], [1.0, np.nan, 0.0])
    assert table.columns[3].categories == ("ant", "cat")
    assert table.columns[3].text == (1, "cat")


def test_the_first_cell_that_is_no_number_is_remembered(tmp_path: Path) -> None:
    column = read_table(write(tmp_path, "y.csv", b"a\n1\nNA\n2\nx\n3\n")).columns[0]
    assert column.kind == "category"
    assert column.text == (4, "x")


def test_one_csv_plain_compressed_and_as_array_holds_the_same_numbers(tmp_path: Path) -> None:
    text = b"a,b\n1.25,2\n-3,1e3\n"
    plain = read_table(write(tmp_path, "y.csv", text))
    packed = read_table(write(tmp_path, "y.csv.gz", gzip.compress(text)))
    np.save(tmp_path / "y.npy", plain.values.astype(np.float32))
    array = read_table(tmp_path / "y.npy")
    np.testing.assert_array_equal(plain.values, packed.values)
    np.testing.assert_array_equal(plain.values, array.values)
    assert array.names == ("c0", "c1")


def test_columns_choose_and_order(tmp_path: Path) -> None:
    path = write(tmp_path, "y.csv", b",height,weight\n1,2,3\n2,3,4\n")
    assert read_table(path, columns=["weight", "height"]).names == ("weight", "height")
    with pytest.raises(InputError, match=r"no column 'wieght'\. Did you mean weight\?"):
        read_table(path, columns=["wieght"])
    with pytest.raises(InputError, match=r"no column 'z'\. It has height, weight\."):
        read_table(path, columns=["z"])
    with pytest.raises(InputError, match="asked for twice"):
        read_table(path, columns=["height", "height"])


def test_kinds_override_what_was_inferred_where_the_cells_allow_it(tmp_path: Path) -> None:
    path = write(tmp_path, "y.csv", b"a,b\n1,x\n2.5,y\n")
    column = read_table(path, kinds={"a": "category"}).columns[0]
    assert (column.kind, column.categories, list(column.values)) == ("category", ("1", "2.5"), [0.0, 1.0])
    for kinds, message in [
        ({"a": "count"}, "column a: a count column holds whole numbers from 0, got 2.5 in row 2"),
        ({"a": "binary"}, "column a: a binary column holds only 0 and 1, got 2.5 in row 2"),
        ({"b": "real"}, "column b: a real column holds numbers, got 'x' in row 1"),
        ({"a": "cuont"}, r"'cuont' is no kind of column .* Did you mean count\?"),
        ({"c": "real"}, "no column 'c'"),
    ]:
        with pytest.raises(InputError, match=message):
            read_table(path, kinds=kinds)


def test_old_faithful_travels_with_the_package() -> None:
    table = old_faithful()
    assert table.names == ("eruptions", "waiting")
    assert table.n_rows == 272
    np.testing.assert_allclose(table.values.mean(axis=0), [3.4877831, 70.8970588], rtol=1e-6)
