"""Objects of each size written through an endpoint, and read at every one."""

from case import content, writes
from cases.ranges import sizes


def cases(block):
    for name, size in {**sizes(block), "ten-blocks": 10 * block + 1}.items():
        yield writes(f"body/{name}")(lambda leg, size=size: put(leg, size))
        yield writes(f"body/{name}/expect")(lambda leg, size=size: raw(leg, size))


def put(leg, size):
    leg.call("put_object", Key=leg.key(), Body=content(size), ContentType="application/x-bytes")
    leg.call("head_object", Key=leg.key())
    leg.call("get_object", Key=leg.key())
    leg.shown()


def raw(leg, size):
    """As programs do it that ask before they send."""
    leg.raw("PUT", leg.key(), body=content(size, 2), payload="UNSIGNED-PAYLOAD", headers={"expect": "100-continue"})
    leg.shown()
