"""What is stored beside the bytes: headers, user metadata, tags, access lists, attributes; and overrides of a read."""

import datetime

from case import reads, writes

WHEN = datetime.datetime(2031, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc)
STORED = {
    "content-type": {"ContentType": "text/plain; charset=utf-8"},
    "content-type-odd": {"ContentType": "nonsense"},
    "content-encoding": {"ContentEncoding": "gzip"},
    "content-encoding-two": {"ContentEncoding": "gzip, br"},
    "content-disposition": {"ContentDisposition": "attachment; filename=\"a b.txt\"; filename*=UTF-8''%e2%82%ac.txt"},
    "content-language": {"ContentLanguage": "de-AT, en"},
    "cache-control": {"CacheControl": "public, max-age=60"},
    "cache-control-no-store": {"CacheControl": "no-store"},
    "expires": {"Expires": WHEN},
    "storage-class": {"StorageClass": "STANDARD_IA"},
    "redirect": {"WebsiteRedirectLocation": "/elsewhere"},
    "tagging": {"Tagging": "a=1&b=2%203"},
    "meta-one": {"Metadata": {"one": "1"}},
    "meta-case": {"Metadata": {"MixedCase": "Value", "UPPER": "LOWER"}},
    "meta-many": {"Metadata": {f"name-{number}": "v" * number for number in range(1, 25)}},
    "meta-long": {"Metadata": {"long": "x" * 1900}},
    "meta-odd": {"Metadata": {"odd": "a;b,c=d\"e'f\\g:h/i?j[k]{l}", "dots.and_lines": "1"}},
    "meta-blanks": {"Metadata": {"blanks": "a   b", "number": "007"}},
    "all": {
        "ContentType": "image/png", "ContentEncoding": "br", "ContentDisposition": "inline", "ContentLanguage": "fr",
        "CacheControl": "max-age=1", "Expires": WHEN, "Metadata": {"a": "b"}, "Tagging": "x=y",
    },
}
# Outside ASCII there is no one way: raw bytes, and the two encodings that clients use.
RAW_VALUES = {
    "utf-8": "größe-日本", "rfc2047": "=?UTF-8?B?Z3LDtsOfZQ==?=", "percent": "gr%C3%B6%C3%9Fe", "empty": "", "blank-inside": "a \t b",
    "blank-around": "  a  ", "comma": "a,b", "long": "v" * 2500,
}
OVERRIDES = {
    "ResponseContentType": "text/css", "ResponseContentLanguage": "it", "ResponseExpires": WHEN, "ResponseCacheControl": "no-cache",
    "ResponseContentDisposition": "attachment; filename=\"ä b.bin\"", "ResponseContentEncoding": "identity",
}
GRANT = 'id="65a011a29cdf8ec533ec3d1ccaae921c"'


def cases(block):
    for name, stored in STORED.items():
        yield reads(f"metadata/get/{name}", **stored)(lambda leg: leg.call("get_object", Key=leg.key()))
        yield reads(f"metadata/head/{name}", **stored)(lambda leg: leg.call("head_object", Key=leg.key()))
        yield writes(f"metadata/put/{name}")(lambda leg, stored=stored: put(leg, stored))
    yield reads("metadata/range/all", 3 * block, **STORED["all"])(
        lambda leg: leg.call("get_object", Key=leg.key(), Range=f"bytes={block - 1}-{block}")
    )
    for name, value in RAW_VALUES.items():
        yield writes(f"metadata/raw/{name}")(lambda leg, value=value: raw(leg, {"x-amz-meta-odd": value}))
    yield writes("metadata/raw/empty-content-type")(lambda leg: raw(leg, {"content-type": ""}))
    yield writes("metadata/raw/expires-no-date")(lambda leg: raw(leg, {"expires": "0"}))
    for name, value in OVERRIDES.items():
        for method in ("get_object", "head_object"):
            yield reads(f"override/{method}/{name}", **STORED["all"])(
                lambda leg, name=name, value=value, method=method: leg.call(method, Key=leg.key(), **{name: value})
            )
    yield reads("override/all", **STORED["all"])(lambda leg: leg.call("get_object", Key=leg.key(), **OVERRIDES))
    yield reads("override/then-plain", **STORED["all"])(override_then_plain)
    yield reads("override/range")(lambda leg: leg.call("get_object", Key=leg.key(), Range="bytes=0-9", **OVERRIDES))
    yield reads("override/not-modified")(
        lambda leg: leg.call("get_object", Key=leg.key(), IfNoneMatch=leg.seen["ETag"], **OVERRIDES)
    )
    yield reads("override/absent")(lambda leg: leg.call("get_object", Key=leg.key("nothing"), **OVERRIDES))
    yield reads("override/anonymous")(
        lambda leg: leg.raw("GET", leg.key(), [("response-content-type", "text/css")], sign="none", about="anonymous")
    )
    for name, act in {**TAGGING, **ACCESS, **ATTRIBUTES}.items():
        yield writes(name)(act)


def put(leg, stored):
    leg.call("put_object", Key=leg.key(), Body=b"hello", **stored)
    leg.call("head_object", Key=leg.key())
    leg.shown()


def raw(leg, headers):
    leg.raw("PUT", leg.key(), headers=headers, body=b"hello")
    leg.raw("HEAD", leg.key())
    leg.shown()


def override_then_plain(leg):
    """An override is of one answer and must not stay in a cache."""
    leg.call("get_object", Key=leg.key(), **OVERRIDES)
    leg.call("get_object", Key=leg.key())


def tags(*pairs):
    return {"TagSet": [{"Key": name, "Value": value} for name, value in pairs]}


def tagged(leg, *pairs, **more):
    leg.put(**more)
    leg.call("get_object", Key=leg.key())
    leg.call("put_object_tagging", Key=leg.key(), Tagging=tags(*pairs))
    leg.call("get_object_tagging", Key=leg.key())
    leg.call("get_object", Key=leg.key())
    leg.shown()


def untagged(leg):
    leg.put(Tagging="a=1&b=2")
    leg.call("get_object", Key=leg.key())
    leg.call("delete_object_tagging", Key=leg.key())
    leg.call("get_object_tagging", Key=leg.key())
    leg.call("head_object", Key=leg.key())
    leg.shown()


TAGGING = {
    "tagging/one": lambda leg: tagged(leg, ("a", "1")),
    "tagging/ten": lambda leg: tagged(leg, *((f"name{number}", str(number)) for number in range(10))),
    "tagging/eleven": lambda leg: tagged(leg, *((f"name{number}", str(number)) for number in range(11))),
    "tagging/replaces": lambda leg: tagged(leg, ("b", "2"), Tagging="a=1&c=3"),
    "tagging/none": lambda leg: tagged(leg, Tagging="a=1"),
    "tagging/odd": lambda leg: tagged(leg, ("a b+c-d=e.f:g/h@", "+ - = . _ : / @")),
    "tagging/unicode": lambda leg: tagged(leg, ("größe", "日本")),
    "tagging/forbidden": lambda leg: tagged(leg, ("a", "<&>")),
    "tagging/twice": lambda leg: tagged(leg, ("a", "1"), ("a", "2")),
    "tagging/long": lambda leg: tagged(leg, ("k" * 128, "v" * 256)),
    "tagging/too-long": lambda leg: tagged(leg, ("k" * 129, "v")),
    "tagging/delete": untagged,
    "tagging/get-of-none": lambda leg: (leg.put(), leg.call("get_object_tagging", Key=leg.key())),
    "tagging/get-absent": lambda leg: leg.call("get_object_tagging", Key=leg.key()),
    "tagging/put-absent": lambda leg: leg.call("put_object_tagging", Key=leg.key(), Tagging=tags(("a", "1"))),
    "tagging/delete-absent": lambda leg: leg.call("delete_object_tagging", Key=leg.key()),
    "tagging/no-xml": lambda leg: (leg.put(), leg.raw("PUT", leg.key(), [("tagging", "")], body=b"<Tagging>")),
}


def granted(leg, **given):
    leg.put()
    leg.call("get_object_acl", Key=leg.key())
    leg.call("put_object_acl", Key=leg.key(), **given)
    leg.call("get_object_acl", Key=leg.key())
    leg.shown()


ACCESS = {
    **{f"acl/canned/{name}": lambda leg, name=name: granted(leg, ACL=name)
       for name in ("private", "public-read", "authenticated-read", "bucket-owner-full-control")},
    "acl/header": lambda leg: granted(leg, GrantRead=GRANT),
    "acl/get-absent": lambda leg: leg.call("get_object_acl", Key=leg.key()),
    "acl/put-absent": lambda leg: leg.call("put_object_acl", Key=leg.key(), ACL="private"),
    "acl/with-put": lambda leg: (put(leg, {"ACL": "public-read"}), leg.call("get_object_acl", Key=leg.key())),
    "acl/wrong-name": lambda leg: (leg.put(), leg.raw("PUT", leg.key(), [("acl", "")], {"x-amz-acl": "everybody"})),
}

ALL_ATTRIBUTES = ["ETag", "Checksum", "ObjectParts", "StorageClass", "ObjectSize"]
ATTRIBUTES = {
    **{f"attributes/{name}": lambda leg, name=name: (leg.put(), leg.call("get_object_attributes", Key=leg.key(), ObjectAttributes=[name]))
       for name in ALL_ATTRIBUTES},
    "attributes/all": lambda leg: (leg.put(), leg.call("get_object_attributes", Key=leg.key(), ObjectAttributes=ALL_ATTRIBUTES)),
    "attributes/absent": lambda leg: leg.call("get_object_attributes", Key=leg.key(), ObjectAttributes=["ETag"]),
    "attributes/none-asked": lambda leg: (leg.put(), leg.raw("GET", leg.key(), [("attributes", "")])),
    "attributes/unknown": lambda leg: (
        leg.put(), leg.raw("GET", leg.key(), [("attributes", "")], {"x-amz-object-attributes": "Colour"})
    ),
}
