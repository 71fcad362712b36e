"""Parquet files as pyarrow writes them, and what an edit and its reversal make of them.

    parquet.py write FOLDER                     makes in-*.parquet
    parquet.py compare BEFORE AFTER NEW...      all columns but `text` are the same, and the columns NEW were added
    parquet.py same BEFORE AFTER                all columns and types are the same
    parquet.py lines BEFORE LINES               the file as lines of JSON
    parquet.py table LINES FILE                 a file of the members of lines of JSON
"""

import datetime
import decimal
import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def texts(count):
    lines = Path("sample.jsonl").read_text().splitlines()
    return [json.loads(lines[row % len(lines)])["text"][:200] for row in range(count)]


def columns(rows):
    """Types that Parquet and Arrow have, nulls and empty values among them."""
    every = range(rows)
    null = lambda row, value: None if row % 7 == 3 else value
    utc = datetime.timezone.utc
    moment = lambda row: datetime.datetime(2001, 2, 3, 4, 5, 6, 789000) + datetime.timedelta(hours=row)
    struct = pa.struct([("a", pa.int8()), ("b", pa.list_(pa.struct([("c", pa.string()), ("d", pa.float32())])))])
    return {
        "i8": pa.array([null(row, row % 100) for row in every], pa.int8()),
        "u64": pa.array([2**64 - 1 - row for row in every], pa.uint64()),
        "f16": pa.array([row / 8 for row in every], pa.float16()),
        "f64": pa.array([[0.1, float("nan"), float("inf"), -0.0][row % 4] for row in every]),
        "flag": pa.array([null(row, row % 2 == 0) for row in every]),
        "binary": pa.array([null(row, bytes([row % 256] * (row % 5))) for row in every]),
        "fixed": pa.array([bytes([row % 256] * 3) for row in every], pa.binary(3)),
        "large": pa.array([null(row, "é" * (row % 4)) for row in every], pa.large_string()),
        "category": pa.array([null(row, ["x", "y"][row % 2]) for row in every]).dictionary_encode(),
        "decimal": pa.array([decimal.Decimal(row - 5) / 100 for row in every], pa.decimal128(20, 2)),
        "date": pa.array([null(row, datetime.date(1999, 12, 31)) for row in every]),
        "time": pa.array([datetime.time(1, 2, 3, 4) for row in every], pa.time64("us")),
        "stamp": pa.array([moment(row) for row in every], pa.timestamp("ns")),
        "zone": pa.array([moment(row).replace(tzinfo=utc) for row in every], pa.timestamp("ms", "Europe/Paris")),
        "duration": pa.array([datetime.timedelta(seconds=row) for row in every], pa.duration("s")),
        "list": pa.array([[None, [], None, [1, None, row]][row % 4] for row in every], pa.list_(pa.int32())),
        "deep": pa.array([[None, [], [[]], [None, [row], [1, 2]]][row % 4] for row in every], pa.list_(pa.list_(pa.int64()))),
        "struct": pa.array([null(row, {"a": null(row + 1, 1), "b": [{"c": "é", "d": 0.1}] * (row % 3)}) for row in every], struct),
        "map": pa.array([null(row, [("k", row), ("l", None)][: row % 3]) for row in every], pa.map_(pa.string(), pa.int32())),
    }


def write(folder):
    rows = 50
    metadata = {"owner": "é", "pandas": '{"columns": []}'}
    kinds = {"string": pa.string(), "large_string": pa.large_string(), "string_view": pa.string_view()}
    kinds["dictionary"] = pa.dictionary(pa.int32(), pa.string())
    for (name, kind), codec in zip(kinds.items(), ["snappy", "zstd", "none", "gzip"]):
        text = pa.array(texts(rows)).cast(kind)
        table = pa.table({"id": pa.array(range(rows)), "text": text, **columns(rows)})
        pq.write_table(table.replace_schema_metadata(metadata), Path(folder) / f"in-{name}.parquet", compression=codec, row_group_size=17)
    table = pa.table({"text": texts(rows), **columns(rows)})
    options = {"use_deprecated_int96_timestamps": True, "data_page_version": "2.0", "compression": {"text": "zstd"}}
    options["column_encoding"] = {"text": "DELTA_BYTE_ARRAY", "u64": "DELTA_BINARY_PACKED", "f64": "BYTE_STREAM_SPLIT"}
    pq.write_table(table, Path(folder) / "in-old.parquet", use_dictionary=False, store_schema=False, **options)
    pq.write_table(table.slice(0, 0), Path(folder) / "in-empty.parquet", compression="lz4")


def strict(before, after, names):
    kinds = lambda file: {field.name: field for field in pq.read_schema(file)}
    old, new = kinds(before), kinds(after)
    for name in names:
        assert old[name].equals(new[name], check_metadata=True), (old[name], new[name])
    old, new = pq.ParquetFile(before), pq.ParquetFile(after)
    leaves = lambda file: {file.schema.column(n).path: file.schema.column(n) for n in range(len(file.schema))}
    old_leaves, new_leaves = leaves(old), leaves(new)
    for path, leaf in old_leaves.items():
        if path.split(".")[0] in names:
            assert leaf.equals(new_leaves[path]), path
    skipped = b"ARROW:schema"
    pairs = lambda file: {key: value for key, value in (file.metadata.metadata or {}).items() if key != skipped}
    assert pairs(old) == pairs(new), (pairs(old), pairs(new))
    old, new = pq.read_table(before), pq.read_table(after)
    assert new.num_rows == old.num_rows
    for name in names:
        # NaN is no equal of itself.
        assert str(new[name].to_pylist()) == str(old[name].to_pylist()), name
    return old, new


def compressions(file):
    groups = pq.ParquetFile(file).metadata
    if groups.num_row_groups == 0:
        return {}
    group = groups.row_group(0)
    return {group.column(n).path_in_schema: group.column(n).compression for n in range(group.num_columns)}


def compare(before, after, *added):
    names = [name for name in pq.read_schema(before).names if name != "text"]
    old, new = strict(before, after, names)
    assert new.column_names == old.column_names + list(added), new.column_names
    assert new.schema.field("text").equals(old.schema.field("text"))
    old_codecs, new_codecs = compressions(before), compressions(after)
    if old.num_rows > 0:
        assert all(new_codecs[name] == codec for name, codec in old_codecs.items())
        assert new["text"].to_pylist() != old["text"].to_pylist()
        assert all(json.loads(cell)["tokens"] > 0 for cell in new["toedit"].to_pylist())


def same(before, after):
    names = pq.read_schema(before).names
    old, new = strict(before, after, names)
    assert new.column_names == old.column_names, new.column_names


def lines(before, path):
    def plain(value):
        if isinstance(value, (bytes, datetime.timedelta)):
            return None
        if isinstance(value, decimal.Decimal):
            return float(value)
        if isinstance(value, datetime.date) and not isinstance(value, datetime.datetime):
            return value.isoformat()
        if isinstance(value, (datetime.datetime, datetime.time)) or type(value).__name__ == "Timestamp":
            return None
        if isinstance(value, float):
            return value if value == value and abs(value) != float("inf") else None
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, list) and value and isinstance(value[0], tuple):
            return [{"key": key, "value": inner} for key, inner in value]
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    table = pq.read_table(before)
    skipped = {"binary", "fixed", "time", "stamp", "zone", "duration", "text", "map", "struct"}
    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    assert len(records) == table.num_rows
    for row, record in zip(table.to_pylist(), records):
        assert list(record) == table.column_names + ["toedit"], list(record)
        for name in row.keys() - skipped:
            assert record[name] == plain(row[name]), (name, record[name], row[name])


def table(path, file):
    records = [json.loads(line) for line in Path(path).read_text().splitlines()]
    pq.write_table(pa.Table.from_pylist(records), file)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
