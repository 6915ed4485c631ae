"""Deletions: of one, of many, of what is not there, of what every endpoint holds."""

import base64
import hashlib

from case import writes


def cases(_block):
    for name, act in {
        "one": lambda leg: one(leg), "absent": lambda leg: (leg.call("delete_object", Key=leg.key()), leg.shown()),
        "twice": twice, "then-again-there": again, "held-everywhere": held, "empty-object": lambda leg: one(leg, b""),
        "folder-marker": folder, "then-listed": listed, "uploads-stay": uploads,
    }.items():
        yield writes(f"delete/{name}")(act)
    for name, keys in {
        "some": ["a", "b"], "one": ["a"], "absent": ["nothing", "nor-this"], "mixed": ["a", "nothing"], "twice-named": ["a", "a"],
        "odd": ["a b", "a+b", "a&b", "ü", "a%20b", "<tag>", "'quote\""], "hundred": [f"{number}" for number in range(100)],
    }.items():
        for quiet in (False, True):
            yield writes(f"delete-many/{name}/{'quiet' if quiet else 'told'}")(lambda leg, keys=keys, quiet=quiet: many(leg, keys, quiet))
    yield writes("delete-many/over-a-thousand")(
        lambda leg: leg.call("delete_objects", Delete={"Objects": [{"Key": leg.key(str(number))} for number in range(1001)]}))
    yield writes("delete-many/none")(lambda leg: leg.raw("POST", query=[("delete", "")], headers=md5(b"<Delete/>"), body=b"<Delete/>"))
    yield writes("delete-many/wrong-md5")(lambda leg: plain(leg, md5(b"other")))
    yield writes("delete-many/no-checksum")(lambda leg: plain(leg, {}))
    yield writes("delete-many/md5")(lambda leg: plain(leg, None))


def one(leg, body=b"hello"):
    leg.put(body)
    leg.call("get_object", Key=leg.key())
    leg.call("delete_object", Key=leg.key())
    leg.call("head_object", Key=leg.key())
    leg.shown()


def twice(leg):
    one(leg)
    leg.call("delete_object", Key=leg.key())


def again(leg):
    one(leg)
    leg.call("put_object", Key=leg.key(), Body=b"again")
    leg.shown()


def held(leg):
    leg.put()
    leg.shown()
    leg.call("delete_object", Key=leg.key())
    leg.shown()


def folder(leg):
    leg.call("put_object", Key=leg.key("folder/"), Body=b"")
    leg.call("put_object", Key=leg.key("folder/file"), Body=b"x")
    leg.call("delete_object", Key=leg.key("folder/"))
    leg.shown(leg.key("folder/file"))
    leg.call("list_objects_v2", Prefix=leg.prefix)


def listed(leg):
    for name in "abc":
        leg.put(key=leg.key(name))
    leg.call("delete_object", Key=leg.key("b"))
    leg.call("list_objects_v2", Prefix=leg.prefix)


def uploads(leg):
    leg.put()
    leg.direct.s3.create_multipart_upload(Bucket=leg.bucket, Key=leg.key())
    leg.call("delete_object", Key=leg.key())
    leg.shown()


def many(leg, keys, quiet):
    there = [key for key in keys if "not" not in key and "nor" not in key][:8]
    for key in there:
        leg.put(key=leg.key(key))
        leg.call("get_object", Key=leg.key(key))
    leg.put(key=leg.key("stays"))
    leg.call("delete_objects", Delete={"Objects": [{"Key": leg.key(key)} for key in keys], "Quiet": quiet})
    for key in there:
        leg.shown(leg.key(key))
    leg.call("list_objects_v2", Prefix=leg.prefix)


def md5(body):
    return {"content-md5": base64.b64encode(hashlib.md5(body).digest()).decode()}


def plain(leg, headers):
    leg.put()
    body = f"<Delete><Object><Key>{leg.key()}</Key></Object></Delete>".encode()
    leg.raw("POST", query=[("delete", "")], headers=md5(body) if headers is None else headers, body=body)
    leg.shown()
