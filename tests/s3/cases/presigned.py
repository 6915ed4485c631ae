"""URLs signed ahead: good, expired, tampered with; requests of nobody; and the bucket in the host."""

import datetime

import sign
from case import content, reads, writes

KEYS = ("nobody", "secret")


def presigned(leg, method, body=b"", key=None, **more):
    return leg.raw(method, leg.key() if key is None else key, body=body, sign="query", **more)


def ago(**time):
    return datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(**time)


def altered(name, value):
    """Puts another value into the query."""
    return lambda path, query: (path, [(n, value if n == name else v) for n, v in query])


def dropped(name):
    return lambda path, query: (path, [(n, v) for n, v in query if n != name])


def added(name, value):
    return lambda path, query: (path, [*query, (name, value)])


TAMPERED = {
    "signature": altered("X-Amz-Signature", "0" * 64),
    "signature-short": altered("X-Amz-Signature", "abc"),
    "no-signature": dropped("X-Amz-Signature"),
    "expires": altered("X-Amz-Expires", "9999"),
    "no-expires": dropped("X-Amz-Expires"),
    "no-date": dropped("X-Amz-Date"),
    "no-credential": dropped("X-Amz-Credential"),
    "no-signed-headers": dropped("X-Amz-SignedHeaders"),
    "algorithm": altered("X-Amz-Algorithm", "AWS4-HMAC-SHA512"),
    "added-parameter": added("response-content-type", "text/css"),
    "added-unknown": added("x-id", "GetObject"),
    "key": lambda path, query: (path + "x", query),
}


def cases(block):
    for method in ("GET", "HEAD"):
        yield reads(f"presigned/{method}")(lambda leg, method=method: presigned(leg, method))
        yield reads(f"presigned/{method}/expired")(
            lambda leg, method=method: presigned(leg, method, expires=60, when=ago(hours=1)))
        yield reads(f"presigned/{method}/absent")(lambda leg, method=method: presigned(leg, method, key=leg.key("nothing")))
        for name, tamper in TAMPERED.items():
            yield reads(f"presigned/{method}/tampered/{name}")(
                lambda leg, method=method, tamper=tamper: presigned(leg, method, tamper=tamper))
        yield reads(f"presigned/{method}/of-nobody")(lambda leg, method=method: presigned(leg, method, keys=KEYS))
        yield reads(f"presigned/{method}/signed-as-another")(
            lambda leg, method=method: presigned(leg, method, signed_as="PUT"))
    for label, expires in {"week": 604800, "longer": 604801, "zero": 0, "negative": -1, "second": 1, "word": "soon"}.items():
        when = ago(seconds=0) if label != "second" else ago(seconds=30)
        yield reads(f"presigned/expires/{label}")(lambda leg, expires=expires, when=when: presigned(leg, "GET", expires=expires, when=when))
    yield reads("presigned/from-the-future")(lambda leg: presigned(leg, "GET", when=ago(hours=-2)))
    yield reads("presigned/range", 3 * block)(
        lambda leg: presigned(leg, "GET", headers={"Range": f"bytes={leg.block - 2}-{leg.block + 1}"}))
    yield reads("presigned/condition")(lambda leg: presigned(leg, "GET", headers={"If-None-Match": leg.seen["ETag"]}))
    yield reads("presigned/override")(lambda leg: presigned(leg, "GET", query=[("response-content-type", "text/css")]))
    yield reads("presigned/signed-range")(
        lambda leg: presigned(leg, "GET", headers={"Range": "bytes=0-4"}, signed=["range"]))
    yield reads("presigned/both-ways")(lambda leg: presigned(leg, "GET", headers={"authorization": "AWS4-HMAC-SHA256 x"}))
    yield reads("presigned/sdk")(by_sdk)
    for name, more in {
        "plain": {}, "type": {"headers": {"content-type": "text/css"}},
        "signed-type": {"headers": {"content-type": "text/css"}, "signed": ["content-type"]},
        "meta": {"headers": {"x-amz-meta-a": "b"}, "signed": ["x-amz-meta-a"]},
        "unsigned-meta": {"headers": {"x-amz-meta-a": "b"}},
        "expired": {"expires": 60, "when": ago(hours=1)}, "tampered": {"tamper": TAMPERED["signature"]},
        "other-key": {"tamper": TAMPERED["key"]}, "of-nobody": {"keys": KEYS}, "signed-as-another": {"signed_as": "GET"},
        "md5": {"headers": {"content-md5": "XUFAKrxLKna5cZ2REBfFkg=="}},
        "acl-in-query": {"query": [("x-amz-acl", "public-read")]},
    }.items():
        yield writes(f"presigned/PUT/{name}")(lambda leg, more=more: put(leg, more))
    yield writes("presigned/DELETE")(delete)
    yield writes("presigned/multipart")(multipart)
    yield from unsigned()
    yield from virtual(block)


def by_sdk(leg):
    """What the SDK makes of it, at this endpoint's own address."""
    s3 = leg.endpoint.s3
    for operation, method in {"get_object": "GET", "head_object": "HEAD"}.items():
        url = s3.generate_presigned_url(operation, {"Bucket": leg.bucket, "Key": leg.key()}, 60)
        leg.url(method, url)


def put(leg, more):
    presigned(leg, "PUT", b"hello", **more)
    leg.shown()


def delete(leg):
    leg.put()
    leg.call("get_object", Key=leg.key())
    presigned(leg, "DELETE")
    leg.shown()


def multipart(leg):
    upload_id = leg.call("create_multipart_upload", Key=leg.key())["UploadId"]
    _, headers, _ = presigned(leg, "PUT", content(1000), query=[("partNumber", "1"), ("uploadId", upload_id)])
    parts = [{"PartNumber": 1, "ETag": headers.get("etag", '""')}]
    leg.call("complete_multipart_upload", Key=leg.key(), UploadId=upload_id, MultipartUpload={"Parts": parts})
    leg.shown()


def unsigned():
    """Requests of nobody, of an unknown one, and of one whose clock or signature is wrong."""
    for method in ("GET", "HEAD"):
        for name, more in {
            "nobody": {"sign": "none"}, "unknown": {"keys": KEYS}, "wrong-secret": {"keys": ("anybody", "other")},
            "old": {"when": ago(hours=1)}, "unsigned-payload": {"payload": sign.UNSIGNED},
            "garbage": {"sign": "none", "headers": {"authorization": "garbage"}},
            "v2": {"sign": "none", "headers": {"authorization": "AWS anybody:AAAAAAAAAAAAAAAAAAAAAAAAAAA="}},
            "half": {"sign": "none", "headers": {"authorization": "AWS4-HMAC-SHA256 Credential=anybody/20260101/us-east-1/s3/aws4_request"}},
        }.items():
            yield reads(f"signature/{method}/{name}")(lambda leg, method=method, more=more: leg.raw(method, leg.key(), **more))
    for name, more in {"nobody": {"sign": "none"}, "unknown": {"keys": KEYS}, "wrong-secret": {"keys": ("anybody", "other")},
                       "old": {"when": ago(hours=1)}}.items():
        yield writes(f"signature/PUT/{name}")(
            lambda leg, more=more: (leg.raw("PUT", leg.key(), body=b"hello", **more), leg.shown()))
        yield reads(f"signature/list/{name}")(
            lambda leg, more=more: leg.raw("GET", query=[("list-type", "2"), ("prefix", leg.prefix)], **more))


def virtual(block):
    """The bucket in the host at an endpoint, and in the path directly."""
    asks = {
        "get": lambda leg: leg.raw("GET", leg.key(), virtual=True),
        "head": lambda leg: leg.raw("HEAD", leg.key(), virtual=True),
        "range": lambda leg: leg.raw("GET", leg.key(), headers={"Range": f"bytes={block - 1}-{block}"}, virtual=True),
        "absent": lambda leg: leg.raw("GET", leg.key("nothing"), virtual=True),
        "list": lambda leg: leg.raw("GET", query=[("list-type", "2"), ("prefix", leg.prefix)], virtual=True),
        "head-bucket": lambda leg: leg.raw("HEAD", virtual=True),
        "presigned": lambda leg: presigned(leg, "GET", virtual=True),
    }
    for name, act in asks.items():
        case = reads(f"virtual/{name}", 2 * block)(act)
        case.needs = "domain"
        yield case
    for name, act in {
        "put": lambda leg: (leg.raw("PUT", leg.key(), body=b"hello", virtual=True), leg.shown()),
        "delete": lambda leg: (leg.put(), leg.raw("DELETE", leg.key(), virtual=True), leg.shown()),
        "presigned-put": lambda leg: (presigned(leg, "PUT", b"hello", virtual=True), leg.shown()),
    }.items():
        yield writes(f"virtual/{name}", needs="domain")(act)
