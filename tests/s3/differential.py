#!/usr/bin/env python3
"""Sends the same requests to S3 directly and through each endpoint of Falcon, and tells each difference between the answers."""

import argparse
import concurrent.futures
import fnmatch
import hashlib
import pathlib
import re
import secrets
import sys
import threading
import time
import traceback

import botocore.exceptions
import yaml

import cases
from blob import Blob
from leg import Endpoint, Leg

HERE = pathlib.Path(__file__).parent
NO_LEG = "x"  # as long as a way's number, so that lengths don't differ


class Suite:
    """The endpoints, and what all cases share."""

    def __init__(self, given):
        keys = tuple(given.keys)
        self.direct = Endpoint("direct", given.direct, keys)
        self.ways = [Endpoint(name, url, keys, given.domain) for name, url in given.through]
        # Cold and warm are one endpoint.
        self.endpoints = list({endpoint.url: endpoint for endpoint in reversed(self.ways)}.values())[::-1]
        self.blob_ways = [Blob(name, url, given.token) for name, url in given.blob]
        self.blobs = list({endpoint.url: endpoint for endpoint in reversed(self.blob_ways)}.values())[::-1]
        self.bucket, self.block, self.falcon = given.bucket, given.block, given.falcon
        self.given = {"versions": given.versions, "domain": given.domain, "blob": given.blob}
        # No run reads what a cache may still hold of another.
        self.root = f"differential-{secrets.token_hex(4)}"

    def leg(self, case, endpoint, number, seen=None):
        # A case's name may have what a key should not be tried with in passing.
        slug = re.sub("[^a-z0-9]+", "-", case.name.lower())[:40] + hashlib.sha256(case.name.encode()).hexdigest()[:8]
        leg = Leg(self, endpoint, f"{self.root}/{slug}/{number}/", case.own, seen)
        if case.needs == "versions":
            leg.bucket = self.given["versions"]
        return leg

    def prepare(self):
        """Makes the bucket of the cases about versions."""
        if versions := self.given["versions"]:
            s3 = self.direct.s3
            if versions not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
                s3.create_bucket(Bucket=versions)
            s3.put_bucket_versioning(Bucket=versions, VersioningConfiguration={"Status": "Enabled"})

    def run(self, case, seen):
        """All ways in turn; returns the answers by name of the way, the direct ones first."""
        if case.needs == "blob":
            others = self.blobs if case.own else self.blob_ways
        else:
            others = self.endpoints if case.own else self.ways
        ways = [self.direct, *others]
        answers = {}
        for number, endpoint in enumerate(ways):
            leg = self.leg(case, endpoint, number if case.own else NO_LEG, seen)
            case.act(leg)
            if not leg.answers:
                raise AssertionError("a case that asks nothing proves nothing")
            answers[endpoint.name] = leg.answers
        return answers

    def clear(self):
        """Deletes what the cases stored."""
        s3 = self.direct.s3
        for page in s3.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=f"{self.root}/"):
            if keys := [{"Key": one["Key"]} for one in page.get("Contents", [])]:
                s3.delete_objects(Bucket=self.bucket, Delete={"Objects": keys, "Quiet": True})


class Allowed:
    """The differences that are meant, each with its reason; one that is not seen is itself a failure."""

    def __init__(self, path, origin):
        listed = yaml.safe_load(path.read_text(encoding="utf-8")) or []
        self._entries = [entry for entry in listed if origin in entry.get("origin", origin).split()]
        self._used = set()
        for entry in self._entries:
            if not entry.keys() >= {"cases", "part", "reason"}:
                sys.exit(f"{path}: an entry has cases, part and reason: {entry}")

    def __contains__(self, difference):
        case, part = difference
        hits = [
            number
            for number, entry in enumerate(self._entries)
            if fnmatch.fnmatchcase(case, entry["cases"]) and fnmatch.fnmatchcase(part, entry["part"])
        ]
        self._used.update(hits)
        return bool(hits)

    def unused(self):
        return [entry for number, entry in enumerate(self._entries) if number not in self._used and not entry.get("sometimes")]


def compared(case, answers, allowed):
    """A line for each difference that is not allowed."""
    direct = answers.pop("direct")
    for name, others in answers.items():
        if len(others) != len(direct):
            yield f"{case.name} at {name}: {len(others)} answers, and directly {len(direct)}"
        for number, (here, there) in enumerate(zip(direct, others), 1):
            for part, wanted, got in here.differences(there):
                part = f"{here.call}: {part}"
                if (case.name, part) not in allowed:
                    yield f"{case.name} at {name}: {number}. {part}: {got}, and directly {wanted}"


def stored(suite, case):
    """What a reading case's set-up returns, or what went wrong, which is then told with the others."""
    try:
        return case.setup(suite.leg(case, suite.direct, NO_LEG))
    except Exception as error:
        return error


class Report:
    """Counts and prints, from any thread."""

    def __init__(self, show):
        self.passed, self.failed, self.skipped = 0, 0, 0
        self._show, self._lock = show, threading.Lock()

    def of(self, case, suite, seen, allowed):
        began = time.monotonic()
        try:
            if isinstance(seen, Exception):
                raise seen
            answers = suite.run(case, seen)
            direct = answers["direct"]
            wrong = list(compared(case, answers, allowed))
        except Exception:
            direct, wrong = [], [f"{case.name}: {traceback.format_exc()}"]
        with self._lock:
            if self._show:
                print(f"{case.name}: {time.monotonic() - began:.2f} s")
                for answer in direct:
                    print(f"{case.name}: {answer.call}: {answer.parts}")
            for line in wrong:
                print(f"FAIL {line}")
            if wrong:
                self.failed += 1
            else:
                self.passed += 1

    def skip(self, names, need):
        self.skipped += len(names)
        print(f"skipped: {len(names)} cases need --{need}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--direct", required=True, metavar="URL", help="S3 itself")
    parser.add_argument("--through", required=True, action="append", type=lambda text: text.split("=", 1), metavar="NAME=URL",
                        help="a way through Falcon, in the order in which a case goes them; the first is cold")
    parser.add_argument("--blob", default=[], action="append", type=lambda text: text.split("=", 1), metavar="NAME=URL",
                        help="a way through the blob API, for the cases about it; in order too")
    parser.add_argument("--token", default="t", help="with which the blob API is asked")
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--keys", nargs=2, default=["anybody", "secret"], metavar=("ID", "SECRET"))
    parser.add_argument("--block", type=int, default=1 << 20, metavar="BYTES", help="the cache's block size")
    parser.add_argument("--origin", choices=["weed", "exact", *cases.MATRIX], default="weed",
                        help="exact: the S3 keeps any key as it is, and knows little else; only the cases about keys run. "
                             "The others: a part of each subject")
    parser.add_argument("--versions", metavar="BUCKET", help="a second bucket, for the cases about versions")
    parser.add_argument("--domain", metavar="NAME", help="what the endpoints take bucket names in front of, for virtual hosts")
    parser.add_argument("--falcon", action="store_true", help="each answer of an endpoint must say where it came from")
    parser.add_argument("--differences", type=pathlib.Path, default=HERE / "differences.yaml", metavar="FILE")
    parser.add_argument("--only", metavar="PATTERN", help="only cases whose name matches, with * and ?")
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--show", action="store_true", help="print what S3 answers directly")
    parser.add_argument("--list", action="store_true", help="print the names of the cases and end")
    return parser.parse_args()


def main():
    given = arguments()
    suite, allowed, report = Suite(given), Allowed(given.differences, given.origin), Report(given.show)
    chosen = cases.all_cases(given.origin, given.block)
    assert len({case.name for case in chosen}) == len(chosen), "two cases have one name"
    if given.only:
        chosen = [case for case in chosen if fnmatch.fnmatchcase(case.name, given.only)]
    if given.list:
        print(*(case.name for case in chosen), sep="\n")
        return 0
    for need, have in suite.given.items():
        if not have and (lacking := [case for case in chosen if case.needs == need]):
            report.skip(lacking, need)
            chosen = [case for case in chosen if case.needs != need]
    suite.prepare()
    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(given.jobs) as pool:
        # All at first, so that what is stored is some seconds old when conditions on dates ask for it.
        shared = [case for case in chosen if case.setup]
        seen = dict(zip(
            (case.name for case in shared),
            pool.map(lambda case: stored(suite, case), shared),
        ))
        list(pool.map(lambda case: report.of(case, suite, seen.get(case.name), allowed), chosen))
    try:
        suite.clear()
    except botocore.exceptions.ClientError as error:
        # s3proxy can list no more what it stored halfway.
        print(f"not cleared: {error}")
    if not given.only:
        for entry in allowed.unused():
            print(f"FAIL {given.differences.name}: not seen, so not to be allowed: {entry}")
            report.failed += 1
    print(f"{len(chosen)} cases, each directly and {len(suite.ways)} ways, in {time.monotonic() - began:.0f} s")
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    return 1 if report.failed or not report.passed else 0


if __name__ == "__main__":
    sys.exit(main())
