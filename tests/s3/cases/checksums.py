"""Uploads with each checksum in each form that SDKs send: in a header, in a trailer, with chunks signed or not, or without."""

import base64
import functools
import hashlib
import re
import zlib

import sign
from case import content, writes


def _reflected(width, polynomial):
    """A table-driven CRC of bits in reverse order, as a function."""
    full = (1 << width) - 1
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = (byte >> 1) ^ polynomial if byte & 1 else byte >> 1
        table.append(byte)

    def crc(data):
        value = full
        for byte in data:
            value = table[(value ^ byte) & 0xFF] ^ (value >> 8)
        return (value ^ full).to_bytes(width // 8, "big")

    return crc


ALGORITHMS = {
    "CRC32": lambda data: zlib.crc32(data).to_bytes(4, "big"),
    "CRC32C": _reflected(32, 0x82F63B78),
    "CRC64NVME": _reflected(64, 0x9A6C9329AC4BC9B5),
    "SHA1": lambda data: hashlib.sha1(data).digest(),
    "SHA256": lambda data: hashlib.sha256(data).digest(),
}
WRONG = b"these are other bytes"
TRAILED = {
    "unsigned": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
    "signed": f"STREAMING-{sign.ALGORITHM}-PAYLOAD-TRAILER",
}


@functools.lru_cache(maxsize=64)
def told(name, data):
    """The checksum as S3 writes it."""
    return base64.b64encode(ALGORITHMS[name](data)).decode()


def cases(block):
    for name in ALGORITHMS:
        for claim in ("right", "wrong"):
            of = content(2000) if claim == "right" else WRONG
            yield writes(f"upload/header/{name}/{claim}")(lambda leg, name=name, of=of: in_header(leg, name, of))
            for form in TRAILED:
                yield writes(f"upload/trailer/{form}/{name}/{claim}")(
                    lambda leg, name=name, of=of, form=form: in_trailer(leg, form, name, of)
                )
    for name in ("CRC32", "SHA1", "SHA256"):
        yield writes(f"upload/sdk/{name}")(lambda leg, name=name: by_sdk(leg, ChecksumAlgorithm=name))
    yield writes("upload/sdk/default")(by_sdk)
    for claim, of in {"right": content(2000), "wrong": WRONG}.items():
        md5 = base64.b64encode(hashlib.md5(of).digest()).decode()
        yield writes(f"upload/md5/{claim}")(lambda leg, md5=md5: plain(leg, headers={"content-md5": md5}))
        sha = hashlib.sha256(of).hexdigest()
        yield writes(f"upload/payload/{claim}")(lambda leg, sha=sha: plain(leg, payload=sha))
    yield writes("upload/md5/no-md5")(lambda leg: plain(leg, headers={"content-md5": "x"}))
    yield writes("upload/payload/unsigned")(lambda leg: plain(leg, payload=sign.UNSIGNED))
    yield writes("upload/payload/unsigned-empty")(lambda leg: plain(leg, b"", payload=sign.UNSIGNED))
    yield writes("upload/checksum-no-base64")(lambda leg: plain(leg, headers={"x-amz-checksum-crc32": "!"}))
    yield writes("upload/two-checksums")(lambda leg: plain(leg, headers={
        "x-amz-checksum-crc32": told("CRC32", content(2000)), "x-amz-checksum-sha1": told("SHA1", content(2000))}))
    for label, sizes in {"one": [2000], "several": [8192, 8192, 100], "none": [], "block": [block // 2] * 3}.items():
        pieces = [content(size, number) for number, size in enumerate(sizes)]
        yield writes(f"upload/chunks/signed/{label}")(lambda leg, pieces=pieces: in_chunks(leg, pieces))
        yield writes(f"upload/chunks/unsigned/{label}")(lambda leg, pieces=pieces: in_trailer(leg, "unsigned", "CRC32", None, pieces))
        yield writes(f"upload/chunks/trailed/{label}")(lambda leg, pieces=pieces: in_trailer(leg, "signed", "CRC32C", None, pieces))
    yield writes("upload/chunks/bad-signature")(lambda leg: in_chunks(leg, [content(2000)], spoil=True))
    yield writes("upload/chunks/encoding")(lambda leg: in_chunks(leg, [content(2000)], encoding="gzip,aws-chunked"))
    yield writes("upload/chunks/wrong-length")(lambda leg: in_chunks(leg, [content(2000)], length=1999))
    yield writes("upload/part/trailer")(part_in_trailer)


def ends(leg):
    leg.shown(ChecksumMode="ENABLED")


def in_header(leg, name, of):
    leg.raw("PUT", leg.key(), headers={f"x-amz-checksum-{name.lower()}": told(name, of)}, body=content(2000))
    ends(leg)


def in_trailer(leg, form, name, of, pieces=None, query=()):
    pieces = [content(2000)] if pieces is None else pieces
    body = b"".join(pieces)
    trailer = f"x-amz-checksum-{name.lower()}"
    trailers = {trailer: told(name, body if of is None else of)}

    def stream(signer, mark):
        return signer.chunks(mark, pieces, trailers) if form == "signed" else sign.chunks(pieces, trailers)

    # Signatures are of one length, so the length can be told before the body is signed.
    length = len(stream(sign.Signer(leg.endpoint.keys), "0" * 64))
    headers = {"content-encoding": "aws-chunked", "x-amz-decoded-content-length": len(body), "x-amz-trailer": trailer,
               "x-amz-sdk-checksum-algorithm": name, "content-length": length}
    answer = leg.raw("PUT", leg.key(), query, headers, payload=TRAILED[form], stream=stream)
    if not query:
        ends(leg)
    return answer


def in_chunks(leg, pieces, encoding="aws-chunked", spoil=False, length=None):
    def stream(signer, mark):
        body = signer.chunks(mark, pieces)
        return re.sub(rb"signature=.{8}", b"signature=00000000", body, count=1) if spoil else body

    told_length = sum(map(len, pieces)) if length is None else length
    headers = {"content-encoding": encoding, "x-amz-decoded-content-length": told_length,
               "content-length": len(stream(sign.Signer(leg.endpoint.keys), "0" * 64))}
    leg.raw("PUT", leg.key(), headers=headers, payload=f"STREAMING-{sign.ALGORITHM}-PAYLOAD", stream=stream)
    ends(leg)


def plain(leg, body=None, **more):
    leg.raw("PUT", leg.key(), body=content(2000) if body is None else body, **more)
    ends(leg)


def by_sdk(leg, **more):
    leg.call("put_object", Key=leg.key(), Body=content(2000), **more)
    leg.call("head_object", Key=leg.key(), ChecksumMode="ENABLED")
    ends(leg)


def part_in_trailer(leg):
    upload_id = leg.call("create_multipart_upload", Key=leg.key(), ChecksumAlgorithm="CRC32")["UploadId"]
    query = [("partNumber", "1"), ("uploadId", upload_id)]
    _, headers, _ = in_trailer(leg, "unsigned", "CRC32", None, query=query)
    parts = [{"PartNumber": 1, "ETag": headers.get("etag", '""'), "ChecksumCRC32": told("CRC32", content(2000))}]
    leg.call("complete_multipart_upload", Key=leg.key(), UploadId=upload_id, MultipartUpload={"Parts": parts})
    ends(leg)
