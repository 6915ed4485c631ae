"""The blob API beside S3: what it reads, lists, stores and deletes, and that both APIs see it at once."""

import datetime
import hashlib
import json

from answer import Answer, code_of
from blob import parts
from case import Case, content, store, writes
from cases.keys import KEYS
from cases.metadata import STORED
from cases.ranges import sizes
from sign import EMPTY, Signer, path_of, send

RANGES = ["bytes=0-0", "bytes=5-", "bytes=-5", "bytes=0-99999999", "bytes=5000-", "bytes=5-2", "bytes=0-0,2-3"]
CONDITIONS = {"if-none-match": ("{etag}", '"abc"', "*"), "if-modified-since": ("{date}", "Thu, 01 Jan 2015 00:00:00 GMT")}


def cases(block):
    for name, size in sizes(block).items():
        yield reads(f"blob/size/{name}", size)(lambda leg: read(leg, "GET"))
        yield reads(f"blob/size/{name}/head", size)(lambda leg: read(leg, "HEAD"))
    for range_ in RANGES:
        for name, size in {"empty": 0, "small": 2000, "blocks": 2 * block + 7}.items():
            yield reads(f"blob/range/{name}/{range_}", size)(lambda leg, range_=range_: read(leg, "GET", {"range": range_}))
    for name, values in CONDITIONS.items():
        for number, value in enumerate(values):
            for method in ("GET", "HEAD"):
                yield reads(f"blob/condition/{method}/{name}/{number}")(
                    lambda leg, name=name, value=value, method=method: read(leg, method, {name: meant(leg, value)}))
    for name, stored in STORED.items():
        yield reads(f"blob/metadata/{name}", **stored)(lambda leg: read(leg, "GET"))
    for method in ("GET", "HEAD"):
        yield reads(f"blob/absent/{method}")(lambda leg, method=method: read(leg, method, key="nothing"))
    for name, key in KEYS.items():
        yield blob_writes(f"blob/key/{name}")(lambda leg, key=key: lives(leg, key))
    yield blob_writes("blob/written-by-s3")(written_by_s3)
    yield blob_writes("blob/form-of-three")(form)
    yield blob_writes("blob/deleted-by-prefix")(by_prefix)
    yield blob_writes("blob/list-in-pages")(pages)


def reads(name, size=1000, **stored):
    return lambda act: Case(name, act, store(size, **stored), needs="blob")


def blob_writes(name):
    return writes(name, needs="blob")


def meant(leg, value):
    date = leg.seen["LastModified"].astimezone(datetime.timezone.utc).strftime("%a, %d %b %Y %H:%M:%S GMT")
    return value.format(etag=leg.seen["ETag"], date=date)


def read(leg, method, headers=None, key="object"):
    """The same read of S3, signed, or of the blob API."""
    if not leg.is_direct:
        answer = leg.endpoint.read(leg, leg.key(key), method, headers)
        leg.record(answer, leg.endpoint, asked=answer.parts["status"] < 400)
        return
    path = f"/{leg.bucket}/{path_of(leg.key(key))}"
    sent = {"host": leg.endpoint.host, **(headers or {})}
    Signer(leg.endpoint.keys).header(method, path, [], sent, EMPTY)
    status, told, data = send(leg.endpoint.url, method, path, sent)
    leg.record(Answer(f"{method} object", parts(leg, status, told, data, code_of(data) if status >= 400 else None)), leg.endpoint)


def upload(leg, files):
    """Stores them by one form, or one by one at S3."""
    if leg.is_direct:
        for name, data, kind in files:
            leg.put(data, leg.key(name), ContentType=kind)
        told = [(leg.normal.text(leg.key(name)), len(data), hashlib.md5(data).hexdigest()) for name, data, _ in files]
        status = 200
    else:
        status, _, data = leg.endpoint.upload(leg.bucket, leg.prefix, files)
        told = [(leg.normal.text(one["key"]), one["size"], one["etag"].strip('"')) for one in json.loads(data).get("files", [])]
    leg.record(Answer("upload", {"status": status, "files": told}), leg.endpoint, asked=False)


def delete(leg, **what):
    if leg.is_direct:
        names = [what["key"]] if "key" in what else [one["Key"] for one in leg.direct.s3.list_objects_v2(
            Bucket=leg.bucket, Prefix=what["prefix"]).get("Contents", [])]
        for name in names:
            leg.direct.s3.delete_object(Bucket=leg.bucket, Key=name)
        status = 200
    else:
        status, _, _ = leg.endpoint.ask("DELETE", "/delete", {"bucket": leg.bucket, **what})
    leg.record(Answer("delete", {"status": status}), leg.endpoint, asked=False)


def listed(leg, limit=1000):
    """All below the case's prefix, in pages."""
    objects, cursor = [], None
    for _ in range(30):
        if leg.is_direct:
            more = {"ContinuationToken": cursor} if cursor else {}
            page = leg.direct.s3.list_objects_v2(Bucket=leg.bucket, Prefix=leg.prefix, MaxKeys=limit, **more)
            objects += [(leg.normal.text(one["Key"]), one["Size"], one["ETag"].strip('"')) for one in page.get("Contents", [])]
            cursor = page.get("NextContinuationToken")
        else:
            query = {"bucket": leg.bucket, "prefix": leg.prefix, "limit": limit, **({"cursor": cursor} if cursor else {})}
            page = json.loads(leg.endpoint.ask("GET", "/list", query)[2])
            objects += [(leg.normal.text(one["key"]), one["size"], one["etag"].strip('"')) for one in page.get("objects", [page])]
            cursor = page.get("cursor")
        if not cursor:
            break
    leg.record(Answer("list", {"objects": objects}), leg.endpoint, asked=False)


def lives(leg, key):
    """Everything that a key goes through; the form's field holds the name as a file name, where quotes are escaped."""
    leg.put(b"before", leg.key(key), ContentType="text/css")
    read(leg, "GET", key=key)
    leg.shown(leg.key(key))
    if not any(sign in key for sign in "\"\\/"):
        upload(leg, [(key, content(30), "text/plain")])
    read(leg, "GET", key=key)
    read(leg, "GET", {"range": "bytes=1-3"}, key=key)
    leg.shown(leg.key(key))
    listed(leg)
    delete(leg, key=leg.key(key))
    read(leg, "GET", key=key)
    leg.shown(leg.key(key))


def written_by_s3(leg):
    """Through an endpoint of the S3 gateway; the blob API sees it at once."""
    gateway = leg.direct if leg.is_direct else leg.suite.endpoints[0]
    for body in (b"first", b"second, longer"):
        gateway.s3.put_object(Bucket=leg.bucket, Key=leg.key(), Body=body)
        read(leg, "GET")
    gateway.s3.delete_object(Bucket=leg.bucket, Key=leg.key())
    read(leg, "GET")


def form(leg):
    upload(leg, [(name, content(size), "text/plain") for name, size in {"a": 10, "b": 0, "c": 300_000}.items()])
    listed(leg)
    for name in "abc":
        leg.shown(leg.key(name))


def by_prefix(leg):
    upload(leg, [(name, content(10), "text/plain") for name in ("a1", "a2", "b")])
    for name in ("a1", "a2", "b"):
        leg.shown(leg.key(name))
    delete(leg, prefix=leg.key("a"))
    for name in ("a1", "a2", "b"):
        leg.shown(leg.key(name))
    listed(leg)


def pages(leg):
    for number in range(7):
        leg.put(b"x", leg.key(f"{number}"))
    listed(leg, 3)
