"""Lists with every parameter. All ways list the same objects, so that tokens and pages can be compared as they are."""

from case import content, reads

KEYS = [
    "a", "a/b", "a/b/c", "a/d", "b/1", "b/2", "b/3", "c d/e", "c+d/e", "c%d", "e&f", "g=h", "päth/ü", "x", "z/z/z/z", "~tilde", "0",
]
PLAIN = [f"plain/{number:03}" for number in range(25)]


def store(leg):
    for key in KEYS + PLAIN:
        # SeaweedFS has folders: what is one is no object.
        if not any(other.startswith(f"{key}/") for other in KEYS):
            leg.put(content(len(key), 3), leg.key(key))


def listing(name, operation, **given):
    def act(leg):
        leg.call(operation, Prefix=leg.prefix + given.get("Prefix", ""), **{k: v for k, v in given.items() if k != "Prefix"})

    return reads(f"list/{operation}/{name}", setup=store)(act)


def relative(name, operation, **given):
    """Parameters that name keys: as they stand under the case's prefix."""
    def act(leg):
        more = {key: leg.prefix + value if key in KEYED else value for key, value in given.items()}
        leg.call(operation, **({"Prefix": leg.prefix} | more))

    return reads(f"list/{operation}/{name}", setup=store)(act)


KEYED = {"StartAfter", "Marker", "KeyMarker", "Prefix"}
COMMON = {
    "all": {}, "prefix": {"Prefix": "a"}, "prefix-slash": {"Prefix": "a/"}, "prefix-none": {"Prefix": "nothing"},
    "prefix-odd": {"Prefix": "c "}, "prefix-plus": {"Prefix": "c+"}, "prefix-percent": {"Prefix": "c%"}, "prefix-unicode": {"Prefix": "pä"},
    "delimiter": {"Delimiter": "/"}, "delimiter-prefix": {"Delimiter": "/", "Prefix": "a/"}, "delimiter-odd": {"Delimiter": "b"},
    "delimiter-long": {"Delimiter": "/b"}, "delimiter-encoded": {"Delimiter": "/", "EncodingType": "url"},
    "max-1": {"MaxKeys": 1}, "max-0": {"MaxKeys": 0}, "max-3": {"MaxKeys": 3}, "max-exact": {"Prefix": "b/", "MaxKeys": 3},
    "max-2000": {"MaxKeys": 2000}, "max-delimiter": {"MaxKeys": 3, "Delimiter": "/"}, "encoded": {"EncodingType": "url"},
    "owner-asked": {"OptionalObjectAttributes": ["RestoreStatus"]},
}
STARTS = {"start": "b/", "start-key": "b/2", "start-between": "b/25", "start-end": "zzz", "start-odd": "c d/", "start-unicode": "pä"}


def cases(_block):
    for operation, begin in {"list_objects_v2": "StartAfter", "list_objects": "Marker"}.items():
        for name, given in COMMON.items():
            yield listing(name, operation, **given)
        for name, value in STARTS.items():
            yield relative(name, operation, **{begin: value})
        yield relative("start-delimiter", operation, **{begin: "b/"}, Delimiter="/")
        yield relative("start-max", operation, **{begin: "plain/003"}, MaxKeys=5)
        for size in (1, 4, 5, 1000):
            yield reads(f"list/{operation}/pages-of-{size}", setup=store)(
                lambda leg, operation=operation, size=size: pages(leg, operation, "plain/" if size == 1 else "", MaxKeys=size))
        yield reads(f"list/{operation}/pages-delimiter", setup=store)(
            lambda leg, operation=operation: pages(leg, operation, MaxKeys=2, Delimiter="/"))
    yield listing("owner", "list_objects_v2", FetchOwner=True)
    yield listing("no-owner", "list_objects_v2", FetchOwner=False)
    yield listing("bad-token", "list_objects_v2", ContinuationToken="nonsense")
    for name, given in {"all": {}, "delimiter": {"Delimiter": "/"}, "max": {"MaxKeys": 2}, "encoded": {"EncodingType": "url"}}.items():
        yield listing(name, "list_object_versions", **given)
    yield relative("marker", "list_object_versions", KeyMarker="b/2")
    for name, query in {
        "max-negative": [("max-keys", "-1")], "max-word": [("max-keys", "many")], "max-huge": [("max-keys", "99999999999")],
        "encoding-odd": [("encoding-type", "rot13")], "type-1": [("list-type", "1")], "type-3": [("list-type", "3")],
        "type-none": [], "token-empty": [("list-type", "2"), ("continuation-token", "")], "delimiter-empty": [("delimiter", "")],
        "two-prefixes": [("list-type", "2"), ("prefix", "b")], "owner": [("list-type", "2"), ("fetch-owner", "true")],
        "encoded": [("list-type", "2"), ("encoding-type", "url")],
    }.items():
        yield reads(f"list/raw/{name}", setup=store)(lambda leg, query=query: leg.raw("GET", query=[("prefix", leg.prefix), *query]))
    for name, given in {"all": {}, "delimiter": {"Delimiter": "/"}, "max": {"MaxUploads": 2}, "encoded": {"EncodingType": "url"}}.items():
        yield reads(f"list/uploads/{name}", setup=begin_uploads)(
            lambda leg, given=given: leg.call("list_multipart_uploads", Prefix=leg.prefix, **given))
    yield reads("list/uploads/pages", setup=begin_uploads)(upload_pages)
    yield reads("list/uploads/none", setup=begin_uploads)(lambda leg: leg.call("list_multipart_uploads", Prefix=leg.prefix + "nothing"))


def pages(leg, operation, below="", **given):
    """From page to page with what each answer says is the next."""
    more = {}
    for _ in range(30):  # SeaweedFS has lists that don't end
        answer = leg.call(operation, Prefix=leg.prefix + below, **given, **more)
        if not answer.get("IsTruncated"):
            return
        if operation == "list_objects_v2":
            more = {"ContinuationToken": answer["NextContinuationToken"]}
        else:
            more = {"Marker": answer.get("NextMarker") or answer["Contents"][-1]["Key"]}


def begin_uploads(leg):
    for key in ("a", "b/1", "b/2", "c d"):
        leg.direct.s3.create_multipart_upload(Bucket=leg.bucket, Key=leg.key(key))


def upload_pages(leg):
    more = {}
    for _ in range(10):
        answer = leg.call("list_multipart_uploads", Prefix=leg.prefix, MaxUploads=1, **more)
        if not answer.get("NextKeyMarker"):
            return
        more = {"KeyMarker": answer["NextKeyMarker"], "UploadIdMarker": answer["NextUploadIdMarker"]}
