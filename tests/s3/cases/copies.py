"""Copies: with conditions, with metadata kept or replaced, of parts, onto themselves, of what is not there."""

import datetime

from case import content, writes
from cases.metadata import STORED
from cases.multipart import begin, complete

HOUR = datetime.timedelta(hours=1)
OTHER = '"0123456789abcdef0123456789abcdef"'
OPTIONS = {
    "plain": {}, "keep": {"MetadataDirective": "COPY"}, "keep-though-told": {"MetadataDirective": "COPY", "ContentType": "text/css"},
    "replace": {"MetadataDirective": "REPLACE", "ContentType": "text/css", "Metadata": {"new": "1"}},
    "replace-by-none": {"MetadataDirective": "REPLACE"}, "storage-class": {"StorageClass": "STANDARD_IA"},
    "tags-kept": {"TaggingDirective": "COPY"}, "tags-replaced": {"TaggingDirective": "REPLACE", "Tagging": "n=1"},
    "acl": {"ACL": "public-read"}, "checksum": {"ChecksumAlgorithm": "SHA256"},
    "if-match": {"CopySourceIfMatch": "{etag}"}, "if-match-wrong": {"CopySourceIfMatch": OTHER},
    "if-none-match": {"CopySourceIfNoneMatch": OTHER}, "if-none-match-wrong": {"CopySourceIfNoneMatch": "{etag}"},
    "if-modified": {"CopySourceIfModifiedSince": -HOUR}, "if-unmodified": {"CopySourceIfUnmodifiedSince": HOUR},
    "if-unmodified-wrong": {"CopySourceIfUnmodifiedSince": -HOUR},
    "if-target-absent": {"IfNoneMatch": "*"}, "if-target-matches-wrong": {"IfMatch": OTHER},
}


def cases(block):
    for name, given in OPTIONS.items():
        yield writes(f"copy/{name}")(lambda leg, given=given: copy(leg, given))
        if name.startswith("if-") and "target" not in name:
            yield writes(f"copy-part/{name}")(lambda leg, given=given: of_part(leg, "bytes=0-9", given))
    yield writes("copy/blocks")(lambda leg: copy(leg, {}, 3 * block + 7))
    yield writes("copy/empty")(lambda leg: copy(leg, {}, 0))
    yield writes("copy/over-another")(over)
    yield writes("copy/onto-itself")(lambda leg: itself(leg))
    yield writes("copy/onto-itself-replacing")(lambda leg: itself(leg, MetadataDirective="REPLACE", Metadata={"new": "1"}))
    yield writes("copy/absent")(lambda leg: (leg.call("copy_object", Key=leg.key("to"), CopySource=source(leg)), leg.shown(leg.key("to"))))
    yield writes("copy/no-bucket")(
        lambda leg: leg.call("copy_object", Key=leg.key("to"), CopySource="no-bucket-here/key"))
    for label, text in {"bare": "nothing", "empty": "", "slash": "/{bucket}/{key}", "escaped": "{bucket}%2F{escaped}",
                        "bad-escape": "{bucket}/%zz", "version": "{bucket}/{key}?versionId=null", "bad-version": "{bucket}/{key}?versionId=x"}.items():
        yield writes(f"copy/source/{label}")(lambda leg, text=text: raw(leg, text))
    yield writes("copy/bad-directive")(lambda leg: raw(leg, "{bucket}/{key}", {"x-amz-metadata-directive": "MIX"}))
    for key in ("a b", "a+b", "ä/ö", "a%20b", "a&b=c"):
        yield writes(f"copy/from-key/{key}")(lambda leg, key=key: from_key(leg, key))
    for range_ in ("bytes=0-999", "bytes=10-19", f"bytes={block - 1}-{block}", "bytes=0-99999999", "bytes=5-2", "bytes=-5", "bytes=5-", "x"):
        yield writes(f"copy-part/range/{range_}")(lambda leg, range_=range_: of_part(leg, range_, {}, 2 * block))
    yield writes("copy-part/whole")(lambda leg: of_part(leg, None, {}))
    yield writes("copy-part/absent")(lambda leg: of_part(leg, None, {}, None))


def source(leg, key=None):
    return {"Bucket": leg.bucket, "Key": key or leg.key("from")}


def filled(given, stored):
    """The option with the source's own tag and dates in it."""
    when = datetime.datetime.now(datetime.timezone.utc)
    meant = {}
    for name, value in given.items():
        if isinstance(value, datetime.timedelta):
            value = when + value
        meant[name] = value.format(etag=stored["ETag"]) if isinstance(value, str) else value
    return meant


def copy(leg, given, size=1000):
    stored = leg.put(content(size), leg.key("from"), **STORED["all"])
    leg.call("copy_object", Key=leg.key("to"), CopySource=source(leg), **filled(given, stored))
    leg.call("head_object", Key=leg.key("to"))
    leg.call("get_object_tagging", Key=leg.key("to"))
    leg.shown(leg.key("to"))


def over(leg):
    """Over an object that every endpoint holds."""
    leg.put(b"new", leg.key("from"))
    leg.put(b"before", leg.key("to"))
    leg.shown(leg.key("to"))
    leg.call("copy_object", Key=leg.key("to"), CopySource=source(leg))
    leg.shown(leg.key("to"))


def itself(leg, **given):
    leg.put(**STORED["all"])
    leg.call("get_object", Key=leg.key())
    leg.call("copy_object", Key=leg.key(), CopySource=source(leg, leg.key()), **given)
    leg.shown()


def raw(leg, text, headers=None):
    leg.put(key=leg.key("from"))
    key = leg.key("from")
    text = text.format(bucket=leg.bucket, key=key, escaped=key.replace("/", "%2F"))
    leg.raw("PUT", leg.key("to"), headers={"x-amz-copy-source": text, **(headers or {})})
    leg.shown(leg.key("to"))


def from_key(leg, key):
    leg.put(key.encode(), leg.key(key))
    leg.call("copy_object", Key=leg.key("to"), CopySource=source(leg, leg.key(key)))
    leg.shown(leg.key("to"))


def of_part(leg, range_, given, size=1000):
    stored = leg.put(content(size), leg.key("from")) if size is not None else {"ETag": OTHER}
    upload_id = begin(leg)
    more = {"CopySourceRange": range_} if range_ else {}
    answer = leg.call(
        "upload_part_copy", Key=leg.key(), UploadId=upload_id, PartNumber=1, CopySource=source(leg), **more, **filled(given, stored))
    etag = answer.get("CopyPartResult", {}).get("ETag", '""')
    complete(leg, upload_id, [{"PartNumber": 1, "ETag": etag}])
    leg.shown()
