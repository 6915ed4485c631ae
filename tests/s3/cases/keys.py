"""Keys as nobody should choose them. Those that SeaweedFS bends are for an S3 that keeps every key as it is."""

from case import content, writes

KEYS = {
    "blank": "a b", "blanks": "a   b", "blank-end": "a ", "blank-start": " a", "plus": "a+b", "percent": "a%b", "escape": "a%20b",
    "escaped-slash": "a%2Fb", "escaped-escape": "a%252Fb", "ampersand": "a&b=c", "hash": "a#b", "question": "a?b=c", "quotes": "'a\"b",
    "tilde": "~a~", "star": "a*b!(c)", "colon": "a:b;c", "at": "a@b,c", "equals": "=a=", "dollar": "$a", "brackets": "[a]{b}",
    "angle": "<a>", "pipe": "a|b^c`d", "umlaut": "größe", "composed": "é", "decomposed": "e\u0301", "japanese": "日本/語",
    "emoji": "🦅", "right-to-left": "שלום", "zero-width": "a\u200bb", "dots": "a...b", "dot-start": ".a", "deep": "/".join("abcdefghij"),
    "query-like": "a?list-type=2", "upload-like": "a&uploads", "long-name": "k" * 200, "case": "A/a", "number": "0", "utf-8-long": "ü" * 100,
}
BENT = {
    "backslash": "a\\b", "slash-start": "/a", "slash-end": "a/", "slashes": "a//b", "slashes-only": "//", "dot": "./a", "dot-inside": "a/./b",
    "dots-up": "../a", "dots-inside": "a/../b", "dots-end": "a/..", "dot-only": ".", "dots-only": "..", "tab": "a\tb", "newline": "a\nb",
    "return": "a\rb", "delete-sign": "a\x7fb", "bell": "a\x07b", "object-and-folder": "folder", "carriage-end": "a\r", "non-character": "a\ufffeb",
}
# What no XML may have, so that such a key can't be named in a body.
NO_XML = "\x07\ufffe"
LONGEST = 1024
LONG = {"long-ascii": "k", "long-unicode": "日", "long-folders": "a/"}


def longest(leg, unit):
    """A key of as many bytes as S3 takes at the most, with the prefix."""
    room = LONGEST - len(leg.prefix.encode())
    many, rest = divmod(room, len(unit.encode()))
    return unit * many + "z" * rest


def cases(block, exact=False):
    for name, key in {**KEYS, **(BENT if exact else {})}.items():
        yield writes(f"key/{name}")(lambda leg, key=key: lives(leg, key, exact))
        yield writes(f"key-raw/{name}")(lambda leg, key=key: by_hand(leg, key))
    if exact:
        for name, unit in LONG.items():
            yield writes(f"key/{name}")(lambda leg, unit=unit: lives(leg, longest(leg, unit), exact))
        yield writes("key/too-long")(lambda leg: lives(leg, "k" * (LONGEST + 1 - len(leg.prefix)), exact))
        yield writes("key/look-alikes")(look_alikes)
        yield writes("key/blocks")(lambda leg: lives(leg, "a//../b ", exact, 2 * block + 1))


def lives(leg, key, exact, size=20):
    """Everything that a key goes through."""
    key = leg.key(key)
    leg.call("put_object", Key=key, Body=content(size))
    leg.call("head_object", Key=key)
    leg.call("get_object", Key=key, Range="bytes=1-3")
    leg.shown(key)
    leg.call("list_objects_v2", Prefix=leg.prefix)
    leg.call("list_objects_v2", Prefix=key, EncodingType="url")
    leg.call("copy_object", Key=leg.key("copy"), CopySource={"Bucket": leg.bucket, "Key": key})
    leg.shown(leg.key("copy"))
    leg.call("put_object", Key=key, Body=b"other")
    leg.shown(key)
    if not exact:
        leg.call("list_objects", Prefix=leg.prefix)
        leg.call("get_object_tagging", Key=key)
    if exact and not any(sign in key for sign in NO_XML):
        leg.call("delete_objects", Delete={"Objects": [{"Key": key}]})
    else:
        leg.call("delete_object", Key=key)
    leg.shown(key)


def by_hand(leg, key):
    """With the path written exactly so, by header and by URL."""
    key = leg.key(key)
    leg.raw("PUT", key, body=b"first")
    leg.shown(key)
    leg.raw("GET", key, sign="query")
    leg.raw("PUT", key, body=b"second", sign="query")
    leg.raw("GET", key)
    leg.raw("DELETE", key)
    leg.raw("HEAD", key)


def look_alikes(leg):
    """Keys that become one as soon as somebody cleans them: each keeps its own bytes."""
    keys = ["a/b", "a//b", "a/./b", "./a/b", "a/../a/b", "/a/b", "a/b/", "a%2Fb", "a\\b", "a/b ", "A/b", "é", "e\u0301"]
    for number, key in enumerate(keys):
        leg.call("put_object", Key=leg.key(key), Body=str(number).encode())
    for key in keys:
        leg.shown(leg.key(key))
    for key in keys[::2]:
        leg.call("delete_object", Key=leg.key(key))
    for key in keys:
        leg.shown(leg.key(key))
    leg.call("list_objects_v2", Prefix=leg.prefix)
