"""Multipart uploads: done, given up, done wrongly, listed."""

from case import FULL, content, writes


def begin(leg, **more):
    return leg.call("create_multipart_upload", Key=leg.key(), **more).get("UploadId", "none")


def part(leg, upload_id, number, body=None):
    """The first is as large as a part must be which is not the last; one more may follow."""
    body = content(FULL if number == 1 else 1000, number) if body is None else body
    answer = leg.call("upload_part", Key=leg.key(), UploadId=upload_id, PartNumber=number, Body=body)
    return {"PartNumber": number, "ETag": answer.get("ETag", '""')}


def complete(leg, upload_id, parts, **more):
    return leg.call("complete_multipart_upload", Key=leg.key(), UploadId=upload_id, MultipartUpload={"Parts": parts}, **more)


def parts_of(leg, upload_id, **more):
    return leg.call("list_parts", Key=leg.key(), UploadId=upload_id, **more)


def cases(block):
    for many in (1, 2, 3, 4, 6):
        yield writes(f"multipart/{many}-parts")(lambda leg, many=many: whole(leg, many))
    yield writes("multipart/50-parts")(fifty)
    yield writes("multipart/blocks")(lambda leg: whole(leg, 3, [content(FULL + block - 1), content(FULL + block + 1), content(block // 3)]))
    yield writes("multipart/gaps")(lambda leg: whole(leg, 3, numbers=[2, 5, 10000]))
    yield writes("multipart/backwards")(lambda leg: whole(leg, 3, [content(FULL), content(FULL), content(FULL)], numbers=[3, 2, 1]))
    yield writes("multipart/headers")(lambda leg: whole(leg, 1, ContentType="text/css", CacheControl="no-cache", Metadata={"a": "b"}))
    yield writes("multipart/tagging")(lambda leg: whole(leg, 1, Tagging="a=b"))
    yield writes("multipart/too-small")(lambda leg: whole(leg, 2, [content(1000), content(1000)]))
    yield writes("multipart/empty-last")(lambda leg: whole(leg, 2, [content(FULL), b""]))
    yield writes("multipart/empty-only")(lambda leg: whole(leg, 1, [b""]))
    for name, act in SCENES.items():
        yield writes(f"multipart/{name}")(act)


def whole(leg, many, bodies=None, numbers=None, **more):
    """Begun, listed, done, read; over an object that is there already."""
    leg.put(b"before")
    leg.call("get_object", Key=leg.key())
    upload_id = begin(leg, **more)
    bodies = bodies or [content(FULL, number) for number in range(1, many)] + [content(1000)]
    parts = [part(leg, upload_id, number, body) for number, body in zip(numbers or range(1, many + 1), bodies)]
    parts_of(leg, upload_id)
    leg.call("get_object", Key=leg.key())
    complete(leg, upload_id, sorted(parts, key=lambda one: one["PartNumber"]))
    leg.call("head_object", Key=leg.key())
    leg.shown()
    parts_of(leg, upload_id)


def fifty(leg):
    """As many as an SDK makes of a quarter of a gigabyte; looked at, but not read as a whole."""
    upload_id = begin(leg)
    parts = [part(leg, upload_id, number, content(FULL if number < 50 else 1000, number % 3)) for number in range(1, 51)]
    parts_of(leg, upload_id, MaxParts=30)
    complete(leg, upload_id, parts)
    leg.call("head_object", Key=leg.key())
    for edge in (1, 25, 49):
        leg.shown(Range=f"bytes={edge * FULL - 2}-{edge * FULL + 2}")


def scene(act):
    """An upload with two parts, on which the scene then acts."""
    def run(leg):
        upload_id = begin(leg)
        act(leg, upload_id, [part(leg, upload_id, number) for number in (1, 2)])
        leg.shown()

    return run


def aborted(leg, upload_id, parts):
    leg.call("abort_multipart_upload", Key=leg.key(), UploadId=upload_id)
    part(leg, upload_id, 3)
    parts_of(leg, upload_id)
    complete(leg, upload_id, parts)
    leg.call("abort_multipart_upload", Key=leg.key(), UploadId=upload_id)


def completed_twice(leg, upload_id, parts):
    complete(leg, upload_id, parts)
    complete(leg, upload_id, parts)
    leg.call("abort_multipart_upload", Key=leg.key(), UploadId=upload_id)


def replaced(leg, upload_id, parts):
    parts[0] = part(leg, upload_id, 1, content(FULL, 9))
    complete(leg, upload_id, parts)


def wrong_tag(leg, upload_id, parts):
    complete(leg, upload_id, [parts[0], parts[1] | {"ETag": '"0123456789abcdef0123456789abcdef"'}])


def listed(leg, upload_id, _parts):
    part(leg, upload_id, 3)
    parts_of(leg, upload_id, MaxParts=1)
    parts_of(leg, upload_id, MaxParts=2, PartNumberMarker=1)
    parts_of(leg, upload_id, PartNumberMarker=3)
    parts_of(leg, upload_id, MaxParts=0)
    leg.call("list_multipart_uploads", Prefix=leg.prefix)


def odd_number(number):
    return scene(lambda leg, upload_id, _: leg.raw(
        "PUT", leg.key(), [("partNumber", number), ("uploadId", upload_id)], body=b"part"))


def unknown(leg):
    upload_id = "0123456789abcdef0123456789abcdef01234567"
    part(leg, upload_id, 1)
    parts_of(leg, upload_id)
    complete(leg, upload_id, [{"PartNumber": 1, "ETag": '"a"'}])
    leg.call("abort_multipart_upload", Key=leg.key(), UploadId=upload_id)


def of_another_key(leg):
    upload_id = begin(leg)
    parts = [part(leg, upload_id, 1)]
    leg.call("complete_multipart_upload", Key=leg.key("other"), UploadId=upload_id, MultipartUpload={"Parts": parts})
    leg.shown()


def two_at_once(leg):
    first, second = begin(leg), begin(leg)
    ones, twos = [part(leg, first, 1, b"first")], [part(leg, second, 1, b"second")]
    complete(leg, second, twos)
    leg.shown()
    complete(leg, first, ones)
    leg.shown()


SCENES = {
    "aborted": scene(aborted),
    "completed-twice": scene(completed_twice),
    "part-replaced": scene(replaced),
    "one-part-left-out": scene(lambda leg, upload_id, parts: complete(leg, upload_id, parts[:1])),
    "wrong-order": scene(lambda leg, upload_id, parts: complete(leg, upload_id, parts[::-1])),
    "same-part-twice": scene(lambda leg, upload_id, parts: complete(leg, upload_id, [parts[0], parts[0]])),
    "missing-part": scene(lambda leg, upload_id, parts: complete(leg, upload_id, [*parts, {"PartNumber": 9, "ETag": '"a"'}])),
    "no-parts": scene(lambda leg, upload_id, _: leg.raw(
        "POST", leg.key(), [("uploadId", upload_id)], body=b"<CompleteMultipartUpload></CompleteMultipartUpload>")),
    "no-xml": scene(lambda leg, upload_id, _: leg.raw("POST", leg.key(), [("uploadId", upload_id)], body=b"<Comp")),
    "wrong-tag": scene(wrong_tag),
    "bare-tag": scene(lambda leg, upload_id, parts: complete(leg, upload_id, [one | {"ETag": one["ETag"].strip('"')} for one in parts])),
    "wrong-size": scene(lambda leg, upload_id, parts: complete(leg, upload_id, parts, MpuObjectSize=5)),
    "right-size": scene(lambda leg, upload_id, parts: complete(leg, upload_id, parts, MpuObjectSize=FULL + 1000)),
    "listed": scene(listed),
    "number-0": odd_number("0"),
    "number-10001": odd_number("10001"),
    "number-x": odd_number("x"),
    "unknown": unknown,
    "of-another-key": of_another_key,
    "two-at-once": two_at_once,
    "part-without-upload": lambda leg: (leg.raw("PUT", leg.key(), [("partNumber", "1")], body=b"part"), leg.shown()),
    "listed-of-none": lambda leg: leg.call("list_multipart_uploads", Prefix=leg.prefix),
}
