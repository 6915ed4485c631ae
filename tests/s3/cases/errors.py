"""What is refused: absent objects and buckets, and requests that are none."""

from case import reads, writes

# For each operation another one: SeaweedFS makes the bucket of a write if told to, and then it would be there for the rest.
ABSENT = "no-bucket-here"
XML = "application/xml"


def cases(_block):
    for method in ("GET", "HEAD"):
        for name, path in {
            "key": None, "folder": None, "bucket": f"/{ABSENT}/key", "bucket-alone": f"/{ABSENT}", "bad-bucket": "/Bad_Bucket/key",
            "short-bucket": "/ab/key", "bad-escape": "/{bucket}/%zz", "nul": "/{bucket}/a%00b",
        }.items():
            yield reads(f"error/{method}/{name}")(lambda leg, method=method, name=name, path=path: absent(leg, method, name, path))
    yield reads("error/twice")(lambda leg: [leg.call("get_object", Key=leg.key("nothing")) for _ in range(3)])
    yield reads("error/head-then-get")(
        lambda leg: (leg.call("head_object", Key=leg.key("nothing")), leg.call("get_object", Key=leg.key("nothing"))))
    yield reads("error/below-an-object")(lambda leg: leg.call("get_object", Key=leg.key("object/below")))
    yield reads("error/below-an-object-head")(lambda leg: leg.call("head_object", Key=leg.key("object/below")))
    for name, key in {"1024": "k" * 1024, "1025": "k" * 1025, "4000": "k" * 4000}.items():
        yield reads(f"error/long-key/{name}")(lambda leg, key=key: leg.raw("GET", key))
    for operation, more in {
        "put_object": {"Key": "a", "Body": b"x"}, "delete_object": {"Key": "a"}, "list_objects_v2": {}, "list_objects": {},
        "head_bucket": {}, "create_multipart_upload": {"Key": "a"}, "list_multipart_uploads": {}, "get_object_tagging": {"Key": "a"},
        "list_object_versions": {}, "delete_objects": {"Delete": {"Objects": [{"Key": "a"}]}},
        "copy_object": {"Key": "a", "CopySource": f"{ABSENT}/b"},
    }.items():
        yield reads(f"error/no-bucket/{operation}")(
            lambda leg, operation=operation, more=more: leg.call(operation, Bucket=f"{ABSENT}-{operation.replace('_', '-')}", **more))
    for name, act in REFUSED.items():
        yield writes(f"error/{name}")(act)
    for method in ("POST", "PATCH", "OPTIONS", "LOCK"):
        yield reads(f"error/method/{method}")(lambda leg, method=method: leg.raw(method, leg.key()))
    yield reads("error/unknown-subresource")(lambda leg: leg.raw("GET", leg.key(), [("colour", "")]))
    yield reads("error/unknown-subresource-value")(lambda leg: leg.raw("GET", leg.key(), [("colour", "red"), ("x-id", "GetObject")]))
    yield reads("error/get-with-body")(lambda leg: leg.raw("GET", leg.key(), body=b"hello"))
    for operation in ("get_object_torrent", "get_object_retention", "get_object_legal_hold"):
        yield reads(f"error/out-of-the-way/{operation}")(lambda leg, operation=operation: leg.call(operation, Key=leg.key()))
    yield reads("error/head-bucket-there")(lambda leg: leg.call("head_bucket"))
    yield reads("error/bucket-location")(lambda leg: leg.call("get_bucket_location"))
    for value in ("null", "none-of-that-id"):
        yield reads(f"error/version-id/{value}")(lambda leg, value=value: leg.raw("GET", leg.key(), [("versionId", value)]))


def absent(leg, method, name, path):
    if path is None:
        leg.raw(method, leg.key("nothing" + ("/" if name == "folder" else "")))
    else:
        leg.raw(method, "", path=path.format(bucket=leg.bucket))


def then_shown(act):
    return lambda leg: (act(leg), leg.shown())


REFUSED = {
    "put/no-length": then_shown(lambda leg: leg.raw("PUT", leg.key(), body=b"hello", without=["content-length"])),
    "put/short-body": then_shown(lambda leg: leg.raw(
        "PUT", leg.key(), headers={"x-amz-decoded-content-length": "5"}, body=b"", payload="UNSIGNED-PAYLOAD")),
    "put/bad-storage-class": then_shown(lambda leg: leg.raw("PUT", leg.key(), headers={"x-amz-storage-class": "BEST"}, body=b"a")),
    "put/bad-acl": then_shown(lambda leg: leg.raw("PUT", leg.key(), headers={"x-amz-acl": "everybody"}, body=b"a")),
    "put/bad-tagging": then_shown(lambda leg: leg.raw("PUT", leg.key(), headers={"x-amz-tagging": "a=1&a=2&%"}, body=b"a")),
    "put/bad-content-sha": then_shown(lambda leg: leg.raw("PUT", leg.key(), body=b"a", payload="nonsense")),
    "put/encrypted-unknown": then_shown(
        lambda leg: leg.raw("PUT", leg.key(), headers={"x-amz-server-side-encryption": "ROT13"}, body=b"a")),
    "put/sse-c-half": then_shown(lambda leg: leg.raw(
        "PUT", leg.key(), headers={"x-amz-server-side-encryption-customer-algorithm": "AES256"}, body=b"a")),
    "post/no-form": lambda leg: leg.raw("POST", headers={"content-type": "multipart/form-data; boundary=x"}, body=b"--x--\r\n"),
    "post/select": lambda leg: (leg.put(), leg.raw("POST", leg.key(), [("select", ""), ("select-type", "2")], body=b"<a/>")),
    "post/restore": lambda leg: (leg.put(), leg.raw("POST", leg.key(), [("restore", "")], body=b"<RestoreRequest/>")),
    "delete/no-xml": lambda leg: leg.raw("POST", query=[("delete", "")], headers={"content-type": XML}, body=b"<Delete>"),
    "delete/empty": lambda leg: leg.raw("POST", query=[("delete", "")], headers={"content-type": XML}, body=b""),
    "complete/no-xml": lambda leg: leg.raw("POST", leg.key(), [("uploadId", "none")], body=b"<Complete"),
}
