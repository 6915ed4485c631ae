#!/usr/bin/env python3
"""Reads columns of a Parquet file through an S3 endpoint with pyarrow's and fsspec's file systems, and counts what S3 was asked for."""

import argparse
import contextlib
import io
import random
import re
import secrets
import sys
import time
import urllib.parse
import urllib.request

import pyarrow
import pyarrow.fs
import pyarrow.parquet
import s3fs

from leg import client
from relay import Relay

ROWS, GROUPS = 400_000, 8
COLUMNS = ["id", "score", "name", "blob"]
CHOSEN = ["id", "score"]


def table():
    """Tens of megabytes that don't compress: two small columns, a text, and one that is most of the file."""
    source = random.Random(1)
    blobs = source.randbytes(ROWS * 80)
    return pyarrow.table({
        "id": pyarrow.array(range(ROWS), pyarrow.int64()),
        "score": [source.random() for _ in range(ROWS)],
        "name": [f"name-{source.randrange(10**9):09}" for _ in range(ROWS)],
        "blob": pyarrow.array([blobs[start : start + 80] for start in range(0, len(blobs), 80)], pyarrow.binary()),
    })


def gauge(page, name):
    """The value of a metric without labels."""
    found = re.search(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+]+)$", page, re.MULTILINE)
    if not found:
        raise AssertionError(f"there is no {name}")
    return int(float(found.group(1)))


def counted(urls):
    """The bytes read from the origin by all nodes, once no fill runs: a block goes on after its reader has what it wanted."""
    deadline = time.monotonic() + 20
    while True:
        pages = []
        for url in urls:
            with urllib.request.urlopen(url, timeout=10) as answer:
                pages.append(answer.read().decode())
        if not any(gauge(page, "falcon_fills") for page in pages):
            return sum(gauge(page, "falcon_origin_bytes_total") for page in pages)
        if time.monotonic() > deadline:
            raise AssertionError("fills that do not end")
        time.sleep(0.05)


class Blocks:
    """The blocks of the file that were asked for."""

    def __init__(self, block, size):
        self.block, self.size, self.held = block, size, set()

    def take(self, ranges):
        """Adds those that hold these ranges, and returns how many bytes the new ones have."""
        asked = {index for first, last in ranges for index in range(first // self.block, min(last, self.size - 1) // self.block + 1)}
        new = asked - self.held
        self.held |= new
        return sum(min(self.block, self.size - index * self.block) for index in new)


class Reader:
    """One library's way to the file, through a relay that sees what it asks for."""

    def __init__(self, given, relay, where):
        self.given, self.where = given, where
        self.relay = relay
        self.netloc = urllib.parse.urlsplit(relay.url).netloc


class ByPyarrow(Reader):
    name = "pyarrow"

    @contextlib.contextmanager
    def file(self):
        system = pyarrow.fs.S3FileSystem(
            access_key=self.given.keys[0], secret_key=self.given.keys[1], endpoint_override=self.netloc, scheme="http", region="us-east-1")
        with system.open_input_file(self.where) as file:
            yield file


class ByFsspec(Reader):
    name = "s3fs"

    @contextlib.contextmanager
    def file(self):
        system = s3fs.S3FileSystem(
            key=self.given.keys[0], secret=self.given.keys[1], endpoint_url=self.relay.url, skip_instance_cache=True,
            client_kwargs={"region_name": "us-east-1"})
        # Small, so that it asks for what is read and not for the megabytes around it.
        with system.open(self.where, "rb", block_size=64 << 10, cache_type="readahead") as file:
            yield file


class Check:
    """Prints what was seen, and counts what is wrong."""

    def __init__(self):
        self.passed = self.failed = 0

    def of(self, what, good, told):
        print(f"{'ok' if good else 'FAIL'} {what}: {told}")
        self.passed, self.failed = self.passed + bool(good), self.failed + (not good)


def footer(reader):
    with reader.file() as file:
        return pyarrow.parquet.ParquetFile(file).metadata.num_rows


def columns(reader):
    with reader.file() as file:
        return pyarrow.parquet.read_table(file, columns=CHOSEN, pre_buffer=False)


def one_group(reader):
    with reader.file() as file:
        return pyarrow.parquet.ParquetFile(file).read_row_group(3, columns=["name"])


def run(reader, frame, blocks, metrics, check):
    """Each reading twice: the first may bring the blocks that it asks for from S3, the second nothing."""
    steps = {
        "footer": (footer, lambda got: got == ROWS),
        "two columns of four": (columns, lambda got: got.equals(frame.select(CHOSEN))),
        "one row group": (one_group, lambda got: got.num_rows == ROWS // GROUPS),
    }
    for label, (read, right) in steps.items():
        for turn in ("first", "second"):
            what = f"{reader.name}, {label}, {turn} time"
            before = counted(metrics) if metrics else None
            reader.relay.ranges.clear()
            got = read(reader)
            ranges = list(reader.relay.ranges)
            asked = sum(last - first + 1 for first, last in ranges)
            allowed = blocks.take(ranges)
            check.of(f"{what}, bytes", right(got), f"{len(ranges)} reads of {asked} bytes, of {blocks.size} of the file")
            check.of(f"{what}, not the whole file", asked < blocks.size / 2, f"{asked} bytes")
            if metrics:
                grown = counted(metrics) - before
                check.of(f"{what}, from S3", grown <= allowed, f"{grown} bytes, and the new blocks asked for have {allowed}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--endpoint", required=True, metavar="URL")
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--direct", metavar="URL", help="where to store the file; the endpoint if not given")
    parser.add_argument("--keys", nargs=2, default=["anybody", "secret"], metavar=("ID", "SECRET"))
    parser.add_argument("--block", type=int, default=1 << 20, metavar="BYTES")
    parser.add_argument("--metrics", action="append", default=[], metavar="URL",
                        help="a node's page of metrics; of all nodes, as each reads from S3. Without, only the ranges are checked")
    given = parser.parse_args()
    frame, written, check = table(), io.BytesIO(), Check()
    pyarrow.parquet.write_table(frame, written, row_group_size=ROWS // GROUPS, compression="none", use_dictionary=False)
    data = written.getvalue()
    store = client(given.direct or given.endpoint, given.keys)
    with Relay(given.endpoint) as relay:
        for kind in (ByPyarrow, ByFsspec):
            # One of its own for each library, so that neither finds what the other brought.
            key = f"dataframes-{secrets.token_hex(4)}/{kind.name} table.parquet"
            store.put_object(Bucket=given.bucket, Key=key, Body=data)
            run(kind(given, relay, f"{given.bucket}/{key}"), frame, Blocks(given.block, len(data)), given.metrics, check)
            store.delete_object(Bucket=given.bucket, Key=key)
    print(f"{check.passed} passed, {check.failed} failed, 0 skipped")
    return 1 if check.failed else 0


if __name__ == "__main__":
    sys.exit(main())
