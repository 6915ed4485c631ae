"""Reads by part number, and with checksums asked for."""

from case import FULL, content, reads, writes
from cases.checksums import ALGORITHMS, told

SMALL = [1000]


def upload(leg, key, sizes, **more):
    """A multipart upload, directly and unrecorded."""
    s3, where = leg.direct.s3, {"Bucket": leg.bucket, "Key": key}
    upload_id = s3.create_multipart_upload(**where, **more)["UploadId"]
    parts = []
    for number, size in enumerate(sizes, 1):
        answer = s3.upload_part(**where, UploadId=upload_id, PartNumber=number, Body=content(size, number % 3))
        parts.append({"PartNumber": number, "ETag": answer["ETag"]})
    s3.complete_multipart_upload(**where, UploadId=upload_id, MultipartUpload={"Parts": parts})
    return s3.head_object(**where)


def of_parts(name, sizes, act):
    return reads(name, setup=lambda leg: upload(leg, leg.key(), sizes))(act)


def numbers(leg, chosen):
    for number in chosen:
        leg.call("get_object", Key=leg.key(), PartNumber=number)
        leg.call("head_object", Key=leg.key(), PartNumber=number)


def cases(block):
    three, edges = [FULL, FULL, 10], [FULL + 1, FULL + block - 1, 3]
    for label, sizes in {"three": three, "edges": edges}.items():
        for number in (1, 2, 3, 4):
            yield of_parts(f"part/{label}/{number}", sizes, lambda leg, number=number: numbers(leg, [number]))
        yield of_parts(f"part/{label}/whole", sizes, lambda leg: leg.call("get_object", Key=leg.key()))
        yield of_parts(f"part/{label}/range", sizes, lambda leg: leg.call("get_object", Key=leg.key(), Range=f"bytes={FULL - 2}-{FULL + 2}"))
    yield of_parts("part/fifty", [FULL] * 49 + [10], lambda leg: numbers(leg, [50, 49, 1, 51]))
    for number in (1, 2, 10000):
        yield of_parts(f"part/one/{number}", SMALL, lambda leg, number=number: numbers(leg, [number]))
    yield of_parts("part/one/if-match", SMALL, lambda leg: leg.call("get_object", Key=leg.key(), IfMatch=leg.seen["ETag"]))
    yield of_parts("part/one/attributes", SMALL, lambda leg: leg.call(
        "get_object_attributes", Key=leg.key(), ObjectAttributes=["ObjectParts", "ETag", "ObjectSize"], MaxParts=2))
    for value in ("0", "-1", "10001", "x", "", "1.5", "01"):
        yield of_parts(f"part/odd/{value}", SMALL, lambda leg, value=value: leg.raw("GET", leg.key(), [("partNumber", value)]))
    yield of_parts("part/with-range", SMALL, lambda leg: leg.call("get_object", Key=leg.key(), PartNumber=1, Range="bytes=0-9"))
    yield of_parts("part/not-modified", SMALL, lambda leg: leg.call(
        "get_object", Key=leg.key(), PartNumber=1, IfNoneMatch=leg.seen["ETag"]))
    for number in (1, 2):
        for method in ("get_object", "head_object"):
            yield reads(f"part/of-a-plain-object/{method}/{number}")(
                lambda leg, number=number, method=method: leg.call(method, Key=leg.key(), PartNumber=number))
    yield reads("part/of-an-empty-object", 0)(lambda leg: leg.call("get_object", Key=leg.key(), PartNumber=1))
    for name in ALGORITHMS:
        yield writes(f"checksum/stored/{name}")(lambda leg, name=name: stored(leg, name))
        yield writes(f"checksum/type/{name}")(lambda leg, name=name: composite(leg, name))
    yield reads("checksum/of-none")(lambda leg: leg.call("get_object", Key=leg.key(), ChecksumMode="ENABLED"))


def stored(leg, name):
    """With a checksum stored, asked for in each way; and not asked for."""
    body = content(2000)
    leg.put(body, **{f"Checksum{name}": told(name, body)})
    leg.call("head_object", Key=leg.key(), ChecksumMode="ENABLED")
    leg.call("get_object", Key=leg.key(), ChecksumMode="ENABLED")
    leg.call("get_object", Key=leg.key(), ChecksumMode="ENABLED", Range="bytes=0-9")
    leg.raw("GET", leg.key())
    leg.raw("GET", leg.key(), headers={"x-amz-checksum-mode": "ENABLED"})
    leg.call("get_object_attributes", Key=leg.key(), ObjectAttributes=["Checksum"])


def composite(leg, name):
    """A multipart upload whose parts tell theirs."""
    where = {"Key": leg.key()}
    upload_id = leg.call("create_multipart_upload", **where, ChecksumAlgorithm=name)["UploadId"]
    parts = []
    # Two that are summed up in Python would take seconds.
    for number in (1, 2) if name in ("CRC32", "SHA1", "SHA256") else (2,):
        body = content(FULL if number == 1 else 3000, number)
        given = {f"Checksum{name}": told(name, body)}
        answer = leg.call("upload_part", **where, UploadId=upload_id, PartNumber=number, Body=body, **given)
        parts.append({"PartNumber": number, "ETag": answer.get("ETag", '""'), **given})
    leg.call("complete_multipart_upload", **where, UploadId=upload_id, MultipartUpload={"Parts": parts})
    leg.call("head_object", **where, ChecksumMode="ENABLED")
    leg.shown(ChecksumMode="ENABLED")
