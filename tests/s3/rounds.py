#!/usr/bin/env python3
"""Writes through the S3 gateway of one node and reads at every endpoint of every node: nothing older than the last write may come back."""

import argparse
import concurrent.futures
import http.client
import random
import secrets
import sys
import time
import urllib.parse

import botocore.exceptions

from leg import client

DELETED = None


class S3Gateway:
    """Reads by the SDK."""

    def __init__(self, url, given):
        self.name, self._bucket = f"S3 at {url}", given.bucket
        self._s3 = client(url, given.keys, max_pool_connections=given.keys_used)

    def read(self, key):
        try:
            return self._s3.get_object(Bucket=self._bucket, Key=key)["Body"].read()
        except botocore.exceptions.ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            return DELETED


class BlobApi:
    """Reads by `GET /get?key=`, on a connection that stays. One for each thread."""

    def __init__(self, url, given):
        self.name = f"blobs at {url}"
        self._bucket, self._connection = given.bucket, http.client.HTTPConnection(urllib.parse.urlsplit(url).netloc, timeout=30)

    def read(self, key):
        self._connection.request("GET", "/get?" + urllib.parse.urlencode({"bucket": self._bucket, "key": key}))
        answer = self._connection.getresponse()
        data = answer.read()
        if answer.status == 404:
            return DELETED
        if answer.status != 200:
            raise AssertionError(f"{answer.status}: {data[:200]!r}")
        return data


class Writer:
    """Overwrites one key, round by round, in each way that S3 has."""

    def __init__(self, s3, given, root, number):
        self._s3, self._bucket = s3, given.bucket
        self.key, self.beside = f"{root}/{number} key", f"{root}/{number} beside"
        self._source = random.Random(number)

    def write(self, turn):
        """Returns what must be read from now on."""
        where = {"Bucket": self._bucket, "Key": self.key}
        # Of sizes below, at and above a block.
        size = self._source.choice([0, 10, 5000, 70_000, 1 << 20, (1 << 20) + 1])
        data = f"{turn} ".encode() + self._source.randbytes(size)
        if turn % 25 == 24:
            self._s3.delete_object(**where)
            return DELETED
        if turn % 25 == 12:
            upload_id = self._s3.create_multipart_upload(**where)["UploadId"]
            part = self._s3.upload_part(**where, UploadId=upload_id, PartNumber=1, Body=data)
            parts = [{"PartNumber": 1, "ETag": part["ETag"]}]
            self._s3.complete_multipart_upload(**where, UploadId=upload_id, MultipartUpload={"Parts": parts})
        elif turn % 10 == 5:
            self._s3.put_object(Bucket=self._bucket, Key=self.beside, Body=data)
            self._s3.copy_object(**where, CopySource={"Bucket": self._bucket, "Key": self.beside})
        elif turn % 25 == 18:
            self._s3.delete_objects(Bucket=self._bucket, Delete={"Objects": [{"Key": self.key}]})
            return DELETED
        else:
            self._s3.put_object(**where, Body=data)
        return data


def told(data):
    return "nothing" if data is DELETED else f"{len(data)} bytes of round {data.split(b' ', 1)[0].decode('latin-1')[:8]}"


class Rounds:
    """All rounds of one key."""

    def __init__(self, given, s3, endpoints, root, number):
        self.writer = Writer(s3, given, root, number)
        self.endpoints = endpoints + [BlobApi(url, given) for url in given.blob]
        self._order = random.Random(number)
        self.many = given.rounds // given.keys_used + (number < given.rounds % given.keys_used)
        self.reads, self.stale, self.failed = 0, [], []

    def run(self):
        for turn in range(self.many):
            try:
                wanted = self.writer.write(turn)
            except Exception as error:
                # It may still land, now or over a later round, so from here there is nothing to compare with.
                self.failed.append(f"round {turn}: write: {error}")
                return
            for endpoint in self._order.sample(self.endpoints, len(self.endpoints)):
                self._read(endpoint, turn, wanted)

    def _read(self, endpoint, turn, wanted):
        try:
            got = endpoint.read(self.writer.key)
        except Exception as error:
            self.failed.append(f"round {turn}: {endpoint.name}: {type(error).__name__}: {error}")
            return
        self.reads += 1
        if got != wanted:
            self.stale.append(f"{self.writer.key}: round {turn}: {endpoint.name}: {told(got)}, wanted {told(wanted)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", required=True, metavar="URL", help="the S3 gateway that takes the writes")
    parser.add_argument("--s3", action="append", default=[], metavar="URL", help="an S3 gateway to read at")
    parser.add_argument("--blob", action="append", default=[], metavar="URL", help="a blob API to read at: a node's or a sidecar's")
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--keys", nargs=2, default=["anybody", "secret"], metavar=("ID", "SECRET"))
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--keys-used", type=int, default=5, metavar="N", help="keys to overwrite, each by a thread of its own")
    given = parser.parse_args()
    if not given.s3 + given.blob:
        parser.error("no endpoint to read at")
    began, root = time.monotonic(), f"rounds-{secrets.token_hex(4)}"
    s3 = client(given.write, given.keys, max_pool_connections=given.keys_used)
    endpoints = [S3Gateway(url, given) for url in given.s3]
    rounds = [Rounds(given, s3, endpoints, root, number) for number in range(given.keys_used)]
    with concurrent.futures.ThreadPoolExecutor(given.keys_used) as pool:
        list(pool.map(Rounds.run, rounds))
    s3.delete_objects(Bucket=given.bucket, Delete={"Objects": [
        {"Key": key} for one in rounds for key in (one.writer.key, one.writer.beside)]})
    stale, failed = sum((one.stale for one in rounds), []), sum((one.failed for one in rounds), [])
    for line in (stale + failed)[:50]:
        print(f"FAIL {line}")
    many, reads = sum(one.many for one in rounds), sum(one.reads for one in rounds)
    print(f"{many} rounds, {reads} reads, {len(stale)} stale, {len(failed)} failed, in {time.monotonic() - began:.0f} s")
    wanted = many * (len(given.s3) + len(given.blob))
    good = not stale and not failed and reads == wanted
    print(f"{int(good)} passed, {int(not good)} failed, 0 skipped")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
