"""What is read after a write: at the endpoint that took it, and at every other that held what was there before."""

from case import content, writes
from cases.multipart import begin, complete, part


def cases(block):
    for before in (b"", b"first", content(2 * block + 5, 7)):
        for after in (b"", b"other", content(block + 5, 8)):
            yield writes(f"overwrite/{len(before)}-with-{len(after)}")(lambda leg, before=before, after=after: overwrite(leg, before, after))
    for name, act in {
        "absent-then-there": absent, "ten-times": ten_times, "same-bytes-other-headers": same_bytes, "by-multipart": by_multipart,
        "by-copy": by_copy, "with-range-held": lambda leg: ranges(leg, block), "older-condition": condition, "aborted": aborted,
        "refused-write-keeps": refused, "tags-seen": tags,
    }.items():
        yield writes(f"overwrite/{name}")(act)


def overwrite(leg, before, after):
    leg.put(before)
    leg.shown()
    leg.call("put_object", Key=leg.key(), Body=after)
    leg.shown()
    leg.call("get_object", Key=leg.key())


def absent(leg):
    """That there was nothing is remembered for a while, and must be forgotten."""
    leg.shown()
    leg.call("put_object", Key=leg.key(), Body=b"there")
    leg.shown()


def ten_times(leg):
    for number in range(10):
        leg.call("put_object", Key=leg.key(), Body=content(3000 + number, number))
        leg.shown()


def same_bytes(leg):
    """The tag stays the same, the headers don't."""
    leg.call("put_object", Key=leg.key(), Body=b"same", ContentType="text/plain", Metadata={"n": "1"})
    leg.shown()
    leg.call("put_object", Key=leg.key(), Body=b"same", ContentType="text/css", Metadata={"n": "2"})
    leg.shown()


def by_multipart(leg):
    leg.put()
    leg.shown()
    upload_id = begin(leg)
    complete(leg, upload_id, [part(leg, upload_id, number) for number in (1, 2)])
    leg.shown()


def by_copy(leg):
    leg.put(b"new", leg.key("from"))
    leg.put()
    leg.shown()
    leg.call("copy_object", Key=leg.key(), CopySource={"Bucket": leg.bucket, "Key": leg.key("from")})
    leg.shown()


def ranges(leg, block):
    leg.put(content(3 * block, 1))
    leg.shown(Range=f"bytes={block}-{block + 9}")
    leg.call("put_object", Key=leg.key(), Body=content(3 * block, 2))
    leg.shown(Range=f"bytes={block - 1}-{block + 9}")
    leg.shown()


def condition(leg):
    etag = leg.put()["ETag"]
    leg.shown()
    leg.call("put_object", Key=leg.key(), Body=b"other")
    leg.shown(IfNoneMatch=etag)
    leg.shown(IfMatch=etag)


def aborted(leg):
    leg.put()
    leg.shown()
    upload_id = begin(leg)
    part(leg, upload_id, 1)
    leg.call("abort_multipart_upload", Key=leg.key(), UploadId=upload_id)
    leg.shown()


def refused(leg):
    leg.put()
    leg.shown()
    leg.raw("PUT", leg.key(), headers={"content-md5": "AAAAAAAAAAAAAAAAAAAAAA=="}, body=b"other")
    leg.shown()


def tags(leg):
    """How many tags there are is told with each read."""
    leg.put()
    leg.shown()
    leg.call("put_object_tagging", Key=leg.key(), Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
    leg.shown()
    leg.call("delete_object_tagging", Key=leg.key())
    leg.shown()
