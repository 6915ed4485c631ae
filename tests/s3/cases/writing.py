"""Conditions on writes, and what else a write may carry."""

from case import content, writes
from cases.multipart import begin, complete, part

OTHER = '"0123456789abcdef0123456789abcdef"'
CONDITIONS = {
    "none-match-any": {"IfNoneMatch": "*"}, "match-right": {"IfMatch": "{etag}"}, "match-wrong": {"IfMatch": OTHER},
    "none-match-right": {"IfNoneMatch": "{etag}"}, "none-match-other": {"IfNoneMatch": OTHER}, "match-any": {"IfMatch": "*"},
    "both": {"IfMatch": "{etag}", "IfNoneMatch": OTHER},
}


def cases(_block):
    for name, given in CONDITIONS.items():
        for there in (True, False):
            label = f"{name}/{'there' if there else 'absent'}"
            yield writes(f"write/put/{label}")(lambda leg, given=given, there=there: put(leg, given, there))
            if name != "both":
                yield writes(f"write/complete/{label}")(lambda leg, given=given, there=there: completes(leg, given, there))
        if "IfMatch" in given and "IfNoneMatch" not in given:
            yield writes(f"write/delete/{name}")(lambda leg, given=given: deletes(leg, given))
    for header, value in {
        "if-modified-since": "Thu, 01 Jan 2015 00:00:00 GMT", "if-unmodified-since": "Thu, 01 Jan 2015 00:00:00 GMT",
    }.items():
        yield writes(f"write/put/{header}")(
            lambda leg, header=header, value=value: (leg.put(), leg.raw("PUT", leg.key(), headers={header: value}, body=b"n"), leg.shown()))
    yield writes("write/append")(
        lambda leg: (leg.put(), leg.call("put_object", Key=leg.key(), Body=b" again", WriteOffsetBytes=5), leg.shown()))
    yield writes("write/sse-s3")(lambda leg: (leg.call("put_object", Key=leg.key(), Body=b"x", ServerSideEncryption="AES256"), leg.shown()))
    yield writes("write/sse-c")(sse_c)
    yield writes("write/sse-c-wrong-key")(sse_c_wrong)
    yield writes("write/twice")(lambda leg: ([leg.call("put_object", Key=leg.key(), Body=content(100, n)) for n in (1, 2)], leg.shown()))


def filled(leg, given, there):
    etag = leg.put()["ETag"] if there else OTHER
    if there:
        # So that each endpoint has something to forget, or to keep.
        for endpoint in leg.suite.endpoints if not leg.is_direct else []:
            endpoint.s3.get_object(Bucket=leg.bucket, Key=leg.key())["Body"].read()
    return {name: value.format(etag=etag) for name, value in given.items()}


def put(leg, given, there):
    leg.call("put_object", Key=leg.key(), Body=b"other", **filled(leg, given, there))
    leg.shown()


def completes(leg, given, there):
    given = filled(leg, given, there)
    upload_id = begin(leg)
    complete(leg, upload_id, [part(leg, upload_id, 1)], **given)
    leg.shown()


def deletes(leg, given):
    leg.call("delete_object", Key=leg.key(), **filled(leg, given, True))
    leg.shown()


SSE = {"SSECustomerAlgorithm": "AES256", "SSECustomerKey": "k" * 32}


def sse_c(leg):
    """An object that nobody may cache: it needs its key each time."""
    leg.call("put_object", Key=leg.key(), Body=b"hidden", **SSE)
    leg.call("get_object", Key=leg.key(), **SSE)
    leg.call("get_object", Key=leg.key(), Range="bytes=1-2", **SSE)
    leg.call("head_object", Key=leg.key(), **SSE)
    leg.call("get_object", Key=leg.key())
    leg.call("head_object", Key=leg.key())


def sse_c_wrong(leg):
    leg.call("put_object", Key=leg.key(), Body=b"hidden", **SSE)
    leg.call("get_object", Key=leg.key(), **SSE)
    leg.call("get_object", Key=leg.key(), SSECustomerAlgorithm="AES256", SSECustomerKey="w" * 32)
    leg.call("get_object", Key=leg.key())
