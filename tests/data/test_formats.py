"""One table, whatever file it lies in; and files that lie about themselves, refused in one line."""

import gzip
import io
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.feather as feather
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from onebound.data import Table, read_table, table_from
from onebound.errors import InputError, InputTypeError

FRAME = pa.table(
    {
        "length": [1.5, None, -2.25, float("nan")],
        "legs": pa.array([4, 2, None, 6], pa.int32()),
        "alive": [True, False, None, True],
        "name": pa.array(["cat", "hen", None, "ant"]),
    }
)
CSV = "length,legs,alive,name\n1.5,4,true,cat\nNA,2,false,hen\n-2.25,,,\n,6,True,ant\n"
JSONL = (
    '{"length": 1.5, "legs": 4, "alive": true, "name": "cat"}\n{"legs": 2, "alive": false, "name": "hen"}\n\n'
    '{"length": -2.25, "legs": null}\n{"length": NaN, "legs": 6, "alive": true, "name": "ant"}\n'
)


def as_stream(frame: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, frame.schema) as writer:
        writer.write_table(frame, max_chunksize=3)
    return sink.getvalue()


def as_parquet(frame: pa.Table) -> bytes:
    sink = io.BytesIO()
    pq.write_table(frame, sink, row_group_size=2)
    return sink.getvalue()


def as_feather(frame: pa.Table, compression: str = "lz4") -> bytes:
    sink = io.BytesIO()
    feather.write_feather(frame, sink, compression=compression)
    return sink.getvalue()


CONTENTS = {
    "y.csv": CSV.encode(),
    "y.csv.gz": gzip.compress(CSV.encode()),
    "semicolons.csv": CSV.replace(",", ";").encode(),
    "commas.csv": CSV.replace(",", ";").replace(".", ",").encode(),
    "bom.csv": b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode(),
    "bars.csv": CSV.replace(",", "|").encode(),
    "y.tsv": CSV.replace(",", "\t").encode(),
    "y.TSV.GZ": gzip.compress(CSV.replace(",", "\t").encode()),
    "commas.tsv": CSV.encode(),
    "y.jsonl": JSONL.encode(),
    "y.ndjson.gz": gzip.compress(JSONL.encode()),
    "y.parquet": as_parquet(FRAME),
    "y.feather": as_feather(FRAME),
    "file.arrow": as_feather(FRAME, "uncompressed"),
    "stream.arrow": as_stream(FRAME),
    "guess.gz": gzip.compress(CSV.encode()),
    "lines.gz": gzip.compress(JSONL.encode()),
    "columns.gz": gzip.compress(as_parquet(FRAME)),
}


def write(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def assert_same(table: Table, expected: Table) -> None:
    assert table.names == expected.names
    assert [c.kind for c in table.columns] == [c.kind for c in expected.columns]
    assert [c.categories for c in table.columns] == [c.categories for c in expected.columns]
    assert [c.text for c in table.columns] == [c.text for c in expected.columns]
    np.testing.assert_array_equal(table.values, expected.values)
    assert all(column.values.flags.writeable for column in table.columns)


@pytest.mark.parametrize("name", CONTENTS)
def test_every_format_holds_the_same_table(tmp_path: Path, name: str) -> None:
    expected = table_from(FRAME)
    assert [c.kind for c in expected.columns] == ["real", "count", "binary", "category"]
    np.testing.assert_array_equal(expected.values[:, 3], [1.0, 2.0, np.nan, 0.0])
    path = write(tmp_path, name, CONTENTS[name])
    assert_same(read_table(path), expected)
    assert_same(read_table(path, ["name", "legs"]), expected.select(["name", "legs"]))


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("name", ["y.csv", "y.csv.gz", "y.tsv", "y.ndjson.gz", "y.parquet", "stream.arrow"])
def test_standard_input_and_a_told_format_hold_the_same_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pipe(monkeypatch, CONTENTS[name])
    told = name.removesuffix(".gz").rpartition(".")[2]
    table = read_table("-", format=None if told == "csv" else told)
    assert_same(table, table_from(FRAME))
    assert table.path == "standard input"
    assert_same(read_table(write(tmp_path, "data.bin", CONTENTS[name]), format=told), table_from(FRAME))


def test_arrays_come_as_npy_as_npz_and_by_their_names(tmp_path: Path) -> None:
    y = np.arange(6.0).reshape(3, 2)
    np.savez(tmp_path / "one.npz", y=y)
    np.savez_compressed(tmp_path / "columns.npz", height=y[:, 0], weight=y[:, 1].astype(np.float32))
    np.savez(tmp_path / "several.npz", train=y, label=np.array([0, 1, 1]))
    assert read_table(tmp_path / "one.npz").names == ("c0", "c1")
    columns = read_table(tmp_path / "columns.npz")
    assert columns.names == ("height", "weight")
    np.testing.assert_array_equal(columns.values, y)
    np.testing.assert_array_equal(read_table(f"{tmp_path}/several.npz:train", ["c1"]).values, y[:, 1:])
    with pytest.raises(InputError, match=r"holds train \(3×2\), label \(3\); name one: .*several.npz:train\."):
        read_table(tmp_path / "several.npz")
    with pytest.raises(InputError, match=r"holds no array 'trian'\. Did you mean train\?"):
        read_table(f"{tmp_path}/several.npz:trian")


def test_any_dataframe_with_the_protocol_is_a_table() -> None:
    class Frame:
        def __arrow_c_stream__(self, requested_schema: object = None) -> object:
            return FRAME.__arrow_c_stream__(requested_schema)

    assert_same(table_from(Frame()), table_from(FRAME))
    assert_same(table_from(FRAME.to_reader(), ["legs"]), table_from(FRAME).select(["legs"]))
    assert table_from(FRAME, kinds={"legs": "category"}).columns[1].categories == ("2", "4", "6")
    with pytest.raises(InputTypeError, match=r"must be a dataframe with __arrow_c_stream__ .* got dict"):
        table_from({"a": [1]})
    with pytest.raises(InputError, match="data: is not a table of columns"):
        table_from(pa.chunked_array([[1, 2]]))


def test_dictionaries_are_categories_and_every_width_is_a_number() -> None:
    frame = pa.table(
        {
            "colour": pa.array(["red", "blue", None]).dictionary_encode(),
            "size": pa.array([10, 9, 10]).dictionary_encode(),
            "half": pa.array(np.array([1.5, 2, 3], np.float16)),
            "money": pa.array([Decimal(1), Decimal(2), None], pa.decimal128(12, 2)),
            "id": pa.array([2**63, 0, 2**53 + 1], pa.uint64()),
            "nothing": pa.nulls(3),
            "__index_level_0__": [7, 8, 9],
        }
    )
    table = table_from(frame)
    assert table.names == tuple(frame.column_names[:-1])
    assert [c.kind for c in table.columns] == ["category", "category", "real", "count", "real", "real"]
    assert table.columns[0].categories == ("blue", "red")
    assert table.columns[1].categories == ("9", "10")
    np.testing.assert_array_equal(table.values[:, 5], [np.nan] * 3)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pa.array([0], pa.timestamp("ms")), r"column t holds timestamp\[ms\], .* numbers \(seconds, say\)"),
        (pa.array([[1, 2]]), r"column t holds list<"),
        (pa.array([{"a": 1}]), r"column t holds struct<a: int64>"),
        (pa.array([b"a"]), "column t holds binary"),
    ],
)
def test_times_lists_and_structs_are_refused_by_name_unless_left_out(array: pa.Array, message: str) -> None:
    frame = pa.table({"a": [1.5], "t": array})
    with pytest.raises(InputError, match=message) as caught:
        table_from(frame)
    assert "\n" not in str(caught.value)
    assert table_from(frame, ["a"]).names == ("a",)


def test_a_column_is_coded_by_the_categories_of_a_saved_model() -> None:
    column = table_from(FRAME).columns[3]
    np.testing.assert_array_equal(column.as_category(["hen", "dog", "cat", "ant"]).values, [2, 0, np.nan, 3])
    with pytest.raises(InputError, match=r"column name: 'hen' in row 2 is none of the known categories \(ant, cat\)"):
        column.as_category(["ant", "cat"])
    with pytest.raises(InputError, match=r"\(henn, cat, ant\)\. Did you mean henn\?"):
        column.as_category(["henn", "cat", "ant"])
    # Numbers are known by their value, however the model's file spelled them.
    legs = table_from(FRAME).columns[1]
    np.testing.assert_array_equal(legs.as_category(["none", "2.0", "04", "6"]).values, [2, 1, np.nan, 3])


def test_strings_that_spell_numbers_stay_words_until_told(tmp_path: Path) -> None:
    frame = pa.table({"zip": ["01234", "99", None, "x"]})
    assert table_from(frame).columns[0].kind == "category"
    with pytest.raises(InputError, match="column zip: a count column holds numbers, got 'x' in row 4"):
        table_from(frame, kinds={"zip": "count"})
    np.testing.assert_array_equal(table_from(frame.slice(0, 3), kinds={"zip": "real"}).values[:, 0], [1234, 99, np.nan])
    mixed = read_table(write(tmp_path, "y.jsonl", b'{"a": 1}\n{"a": "x"}\n{"a": true}\n')).columns[0]
    assert (mixed.categories, mixed.text) == (("1", "true", "x"), (2, "x"))


def test_decimal_commas_are_seen_told_or_asked_about(tmp_path: Path) -> None:
    seen = read_table(write(tmp_path, "a.csv", b"a;b\n1,5;2\n-2,25e1;NA\n"))
    np.testing.assert_array_equal(seen.values, [[1.5, 2.0], [-22.5, np.nan]])
    tabs = write(tmp_path, "b.tsv", b"a\tb\n1,5\tx\n2\ty\n")
    with pytest.raises(InputError, match=r"column a holds '1,5', a number with a comma. Give --decimal ,"):
        read_table(tabs)
    np.testing.assert_array_equal(read_table(tabs, decimal=",").values[:, 0], [1.5, 2.0])
    assert read_table(tabs, decimal="point").columns[0].kind == "category"
    both = write(tmp_path, "c.csv", b"a;b\n1,5;2.5\n")
    with pytest.raises(InputError, match=r"decimal commas \(column a\) and decimal points \(column b\)"):
        read_table(both)
    assert [c.kind for c in read_table(both, decimal=",").columns] == ["real", "category"]
    quoted = read_table(write(tmp_path, "d.csv", b'"a, b";"c"\n1;"x, y"\n'))
    assert quoted.names == ("a, b", "c")
    spaces = write(tmp_path, "e.csv", b"a b\n1 2\n")
    assert read_table(spaces, delimiter="space").names == ("a", "b")


BAD_ARGUMENTS = [
    ({"format": "parqet"}, "'parqet' is no format that is read. Did you mean parquet?"),
    ({"delimiter": "ab"}, "delimiter must be one sign, or one of comma"),
    ({"delimiter": "1"}, "delimiter must be one sign"),
    ({"decimal": ";"}, "decimal mark must be . or ,"),
    ({"delimiter": ",", "decimal": ","}, "cannot be delimiter and decimal mark at once"),
    ({"format": "jsonl", "decimal": ","}, "which has no delimiter and no decimal mark"),
    ({"format": "parquet"}, "is read as parquet but is not a parquet file"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD_ARGUMENTS, ids=[str(case[0]) for case in BAD_ARGUMENTS])
def test_a_wrong_argument_is_refused(tmp_path: Path, arguments: dict[str, str], message: str) -> None:
    path = write(tmp_path, "y.csv", b"a,b\n1,2\n")
    with pytest.raises(InputError) as caught:
        read_table(path, **arguments)  # type: ignore[arg-type]
    assert message in str(caught.value)


KDD = ",".join(["0", "tcp", "SF", *["0"] * 19])
LIES = [
    ("cut.parquet", CONTENTS["y.parquet"][:200], r"parquet file is damaged or cut short \(an interrupted download\?\)"),
    ("cut.feather", CONTENTS["y.feather"][:300], "Arrow file is damaged or cut short"),
    ("cut.arrow", CONTENTS["stream.arrow"][:-300], "Arrow file is damaged or cut short"),
    ("cut.npz", b"PK\x03\x04 and no more", "damaged or cut short"),
    ("cut.gz", gzip.compress(CSV.encode() * 99)[:60], "damaged or cut short"),
    ("parquet.csv", CONTENTS["y.parquet"], "called .csv but is a parquet file; give --format parquet, or rename it"),
    ("packed.csv", CONTENTS["y.csv.gz"], "called .csv but is gzip-compressed; give --format csv, or add .gz"),
    ("page.csv", b"\n<!DOCTYPE html><p>404", "is called .csv but is an HTML page"),
    ("pointer.parquet", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS"),
    ("old.feather", b"FEA1" + bytes(60), "Feather file of version 1"),
    ("binary.gz", gzip.compress(bytes(99)), "is read as csv but is a binary file"),
    ("nothing.gz", gzip.compress(b""), "empty, once unpacked"),
    (
        "iris.csv",
        b"5.1,3.5,setosa\n4.9,3,setosa\n",
        r"a column is called '5.1'. No header line\? Add one .*: c0,c1,c2$",
    ),
    (
        "kdd.csv",
        f"{KDD}\n{KDD}\n".encode(),
        r"20 columns are called '0' \(columns 1, 4, 5, 6, 7, …\)\. No header line\?",
    ),
    ("array.jsonl", b'[{"a": 1}]\n', r"row 1 \(line 1\) must be an object"),
    ("pretty.jsonl", b'{\n"a": 1}\n', r"row 1 \(line 1\) is not JSON .* One object a line"),
    ("deep.jsonl", b'{"a": 1}\n\n{"a": [2]}\n', "column a holds a list in row 2"),
    ("twice.jsonl", b'{"a": 1, "a": 2}\n', "has two values called 'a'"),
    ("bare.jsonl", b"{}\n", "has no rows"),
    ("latin.jsonl", b'{"a": "\xe9"}\n', "is not UTF-8 text"),
    ("twice.parquet", as_parquet(pa.Table.from_arrays([pa.array([1])] * 2, ["a", "a"])), "two columns are called 'a'"),
    ("none.parquet", as_parquet(FRAME.slice(0, 0)), "has columns and no rows"),
    ("bare.parquet", as_parquet(pa.table({})), "has no columns"),
    ("wide.csv", b"a,b,c,d,e,f,g\n1,2,3,4,5,6,7\n", r"no column 'zzz'\. It has a, b, c, d, e, … \(7 in all\)\."),
]


@pytest.mark.parametrize(("name", "content", "message"), LIES, ids=[case[0] for case in LIES])
def test_a_file_that_is_not_what_it_says_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = write(tmp_path, name, content)
    with pytest.raises(InputError, match=message) as caught:
        read_table(path, ["zzz"] if name == "wide.csv" else None)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("name", ["m.safetensors", "m.csv", "m"])
def test_a_model_is_no_data(tmp_path: Path, name: str) -> None:
    save_file({"a": np.zeros(3)}, tmp_path / name, {"onebound": "1"})
    with pytest.raises(InputError, match=r"is a fitted model; data are wanted here \(csv, tsv"):
        read_table(tmp_path / name)


def test_folders_pipes_and_nothing_at_all_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "y.parquet", CONTENTS["y.parquet"])
    with pytest.raises(InputError, match=r"is a folder; name one file in it\. It holds y\.parquet\."):
        read_table(tmp_path)
    pipe(monkeypatch, b"")
    with pytest.raises(InputError, match=r"^standard input: nothing came\.$"):
        read_table("-")
    pipe(monkeypatch, CONTENTS["y.parquet"])
    with pytest.raises(
        InputError, match=r"^standard input: is read as csv but is a parquet file; give --format parquet"
    ):
        read_table("-")
