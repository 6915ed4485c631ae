"""A bucket that keeps versions: each read by its id, deleted and brought back."""

from case import Case


def version(name):
    return lambda act: Case(f"version/{name}", act, own=True, needs="versions")


def cases(_block):
    for name, act in {
        "two": two, "delete-marker": marker, "undelete": undelete, "delete-a-version": delete_one, "listed": listed,
        "unknown-id": unknown, "copy-of-old": copy_old, "tags-of-old": tags, "delete-many": delete_many, "range-of-old": ranges,
        "condition-on-old": condition, "null": null, "attributes-of-old": attributes,
    }.items():
        yield version(name)(act)


def put_two(leg):
    return [leg.call("put_object", Key=leg.key(), Body=body).get("VersionId", "none") for body in (b"first", b"second")]


def two(leg):
    for version_id in put_two(leg):
        leg.call("get_object", Key=leg.key(), VersionId=version_id)
        leg.call("head_object", Key=leg.key(), VersionId=version_id)
        leg.call("get_object", Key=leg.key())
    leg.shown()


def marker(leg):
    first, _ = put_two(leg)
    leg.call("get_object", Key=leg.key())
    gone = leg.call("delete_object", Key=leg.key())
    leg.shown()
    leg.call("head_object", Key=leg.key())
    leg.call("get_object", Key=leg.key(), VersionId=first)
    leg.call("get_object", Key=leg.key(), VersionId=gone.get("VersionId", "none"))


def undelete(leg):
    put_two(leg)
    gone = leg.call("delete_object", Key=leg.key())
    leg.shown()
    leg.call("delete_object", Key=leg.key(), VersionId=gone.get("VersionId", "none"))
    leg.shown()


def delete_one(leg):
    first, second = put_two(leg)
    leg.shown()
    leg.call("delete_object", Key=leg.key(), VersionId=second)
    leg.shown()
    leg.call("get_object", Key=leg.key(), VersionId=second)
    leg.call("get_object", Key=leg.key(), VersionId=first)


def listed(leg):
    put_two(leg)
    leg.call("delete_object", Key=leg.key())
    leg.call("list_object_versions", Prefix=leg.prefix)
    leg.call("list_object_versions", Prefix=leg.prefix, MaxKeys=1)
    leg.call("list_objects_v2", Prefix=leg.prefix)


def unknown(leg):
    put_two(leg)
    for text in ("none-of-that-id", "null", ""):
        leg.raw("GET", leg.key(), [("versionId", text)])


def copy_old(leg):
    first, _ = put_two(leg)
    leg.shown()
    leg.call("copy_object", Key=leg.key(), CopySource={"Bucket": leg.bucket, "Key": leg.key(), "VersionId": first})
    leg.shown()


def tags(leg):
    first, _ = put_two(leg)
    leg.call("put_object_tagging", Key=leg.key(), VersionId=first, Tagging={"TagSet": [{"Key": "a", "Value": "1"}]})
    leg.call("get_object_tagging", Key=leg.key(), VersionId=first)
    leg.call("get_object_tagging", Key=leg.key())
    leg.shown()


def delete_many(leg):
    first, second = put_two(leg)
    leg.shown()
    leg.call("delete_objects", Delete={"Objects": [{"Key": leg.key(), "VersionId": second}]})
    leg.shown()
    leg.call("delete_objects", Delete={"Objects": [{"Key": leg.key()}]})
    leg.shown()
    leg.call("get_object", Key=leg.key(), VersionId=first)


def ranges(leg):
    first, _ = put_two(leg)
    leg.call("get_object", Key=leg.key(), VersionId=first, Range="bytes=1-2")
    leg.call("get_object", Key=leg.key(), Range="bytes=1-2")


def condition(leg):
    first, _ = put_two(leg)
    etag = leg.call("head_object", Key=leg.key(), VersionId=first).get("ETag", '""')
    leg.call("get_object", Key=leg.key(), VersionId=first, IfNoneMatch=etag)
    leg.call("get_object", Key=leg.key(), VersionId=first, IfMatch=etag)
    leg.call("get_object", Key=leg.key(), IfMatch=etag)


def null(leg):
    put_two(leg)
    leg.call("delete_object", Key=leg.key(), VersionId="null")
    leg.shown()


def attributes(leg):
    first, _ = put_two(leg)
    leg.call("get_object_attributes", Key=leg.key(), VersionId=first, ObjectAttributes=["ETag", "ObjectSize"])
