"""Ranges at each edge of each block, and all that a range must not be."""

from case import reads

ODD = [
    "bytes=", "bytes=-", "bytes=5-2", "bytes=a-b", "bytes=0-0,2-3", "bytes=0-0, -1", "bytes=1-1,1-1", "bits=0-1", "bytes 0-1",
    "BYTES=0-1", "bytes= 0-1", "bytes=0 - 1", "bytes=0-18446744073709551616", "bytes=+0-1", "0-1", "bytes=0x0-1", "bytes=--1",
    "bytes=-0", "bytes=0-1-2", "bytes=0-1,", "bytes=,0-1", "bytes=1.5-2", "bytes", "bytes==0-1", "bytes=9223372036854775807-",
    "bytes=-9223372036854775808", "bytes=00000-00001",
]


def sizes(block):
    return {
        "empty": 0, "one": 1, "block-1": block - 1, "block": block, "block+1": block + 1, "two-blocks": 2 * block,
        "three-blocks+7": 3 * block + 7,
    }


def edges(size, block):
    """Ranges of which one end lies beside an edge of a block or of the object."""
    firsts = {0, 1, block - 1, block, block + 1, 2 * block - 1, 2 * block, size - 1, size}
    yield from ("bytes=0-0", "bytes=0-", f"bytes=0-{2**40}", "bytes=-1", f"bytes=-{size}", f"bytes=-{size + 1}")
    for last in {block - 1, block, block + 1, 2 * block - 1, size - 1, size} - {-1, 0}:
        yield f"bytes=0-{last}"
    for first in firsts - {-1, 0}:
        yield f"bytes={first}-"
        yield f"bytes={first}-{first + 1}"
    for around in (block, 2 * block):
        if around < size:
            yield f"bytes={around - 1}-{around}"
            yield f"bytes=-{size - around}"
            yield f"bytes=-{size - around + 1}"


def cases(block):
    for name, size in sizes(block).items():
        yield reads(f"range/{name}/whole", size)(lambda leg: leg.call("get_object", Key=leg.key()))
        yield reads(f"head/{name}/whole", size)(lambda leg: leg.call("head_object", Key=leg.key()))
        chosen = sorted(set(edges(size, block)))
        for range_ in chosen:
            yield reads(f"range/{name}/{range_}", size)(
                lambda leg, range_=range_: leg.call("get_object", Key=leg.key(), Range=range_)
            )
        for range_ in chosen[::3]:
            yield reads(f"head/{name}/{range_}", size)(
                lambda leg, range_=range_: leg.call("head_object", Key=leg.key(), Range=range_)
            )
    for range_ in ODD:
        for method in ("GET", "HEAD"):
            yield reads(f"range/odd/{method}/{range_}", 2000)(
                lambda leg, range_=range_, method=method: leg.raw(method, leg.key(), headers={"Range": range_})
            )
    for number, range_ in enumerate(["bytes=0-9", "bytes=-10", "bytes=5000-", "bytes=0-0,5-6"]):
        yield reads(f"range/after-whole/{number}", 2000)(lambda leg, range_=range_: after_whole(leg, range_))
        yield reads(f"range/then-whole/{number}", 3 * block)(lambda leg, range_=range_: then_whole(leg, range_))


def after_whole(leg, range_):
    leg.call("get_object", Key=leg.key())
    leg.call("get_object", Key=leg.key(), Range=range_)


def then_whole(leg, range_):
    leg.call("get_object", Key=leg.key(), Range=range_)
    leg.call("get_object", Key=leg.key())
