"""Conditions on reads: each alone and each pair, true and false, with a range, and in odd writing."""

import datetime
import email.utils
import itertools
import time

from case import reads

HOUR = datetime.timedelta(hours=1)
SECOND = datetime.timedelta(seconds=1)
TAGS = {"true": "{etag}", "false": '"0123456789abcdef0123456789abcdef"', "any": "*", "one-of": '"abc", {etag}'}
DATES = {"older": -HOUR, "same": 0 * HOUR, "newer": SECOND}
VALUES = {"If-Match": TAGS, "If-None-Match": TAGS, "If-Modified-Since": DATES, "If-Unmodified-Since": DATES}
# The same header with a value that only looks like it.
ODD = [
    ("If-Match", "{bare}"), ("If-Match", "W/{etag}"), ("If-Match", '""'), ("If-Match", '"{bare}'), ("If-Match", "{upper}"),
    ("If-None-Match", "{bare}"), ("If-None-Match", "W/{etag}"), ("If-None-Match", '""'), ("If-None-Match", "{etag},{etag}"),
    ("If-None-Match", '"*"'), ("If-None-Match", "{upper}"),
    ("If-Modified-Since", "yesterday"), ("If-Modified-Since", "0"), ("If-Modified-Since", "2030-01-01T00:00:00Z"),
    ("If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT"), ("If-Modified-Since", "Sun Nov  6 08:49:37 1994"),
    ("If-Modified-Since", "Thu, 01 Jan 2099 00:00:00 GMT"), ("If-Unmodified-Since", "yesterday"),
    ("If-Unmodified-Since", "Thu, 01 Jan 2099 00:00:00 GMT"), ("If-Unmodified-Since", "Sun Nov  6 08:49:37 1994"),
]


def value(leg, name, meant):
    """The header's value for this object."""
    if name in DATES and not isinstance(meant, str):
        raise TypeError(name)
    etag = leg.seen["ETag"]
    if isinstance(meant, str):
        return meant.format(etag=etag, bare=etag.strip('"'), upper=etag.upper())
    when = leg.seen["LastModified"] + meant
    # A date to come is no date, so no way may meet it as one to come and another as past.
    while datetime.datetime.now(datetime.timezone.utc) <= when:
        time.sleep(0.05)
    return email.utils.format_datetime(when.astimezone(datetime.timezone.utc), usegmt=True)


def ask(leg, method, given, **more):
    headers = {name: value(leg, name, meant) for name, meant in given}
    leg.raw(method, leg.key(), headers=headers | more)


def sets():
    """Each condition alone, and each pair of two."""
    singles = [[(name, kind)] for name, kinds in VALUES.items() for kind in kinds]
    pairs = [[*one, *other] for one, other in itertools.combinations(singles, 2) if one[0][0] != other[0][0]]
    for chosen in singles + pairs:
        label = "+".join(f"{name.lower()}={kind}" for name, kind in chosen)
        yield label, [(name, VALUES[name][kind]) for name, kind in chosen], len(chosen)


def cases(_block):
    for label, given, many in sets():
        yield reads(f"condition/GET/{label}")(lambda leg, given=given: ask(leg, "GET", given))
        if many == 1 or "one-of" not in label:
            yield reads(f"condition/HEAD/{label}")(lambda leg, given=given: ask(leg, "HEAD", given))
        if many == 1:
            yield reads(f"condition/range/{label}")(lambda leg, given=given: ask(leg, "GET", given, Range="bytes=10-19"))
            yield reads(f"condition/beyond/{label}")(lambda leg, given=given: ask(leg, "GET", given, Range="bytes=5000-"))
            yield reads(f"condition/empty/{label}", 0)(lambda leg, given=given: ask(leg, "GET", given))
    for number, given in enumerate(ODD):
        yield reads(f"condition/odd/{number}-{given[0].lower()}")(lambda leg, given=given: ask(leg, "GET", [given]))
    if_range = [("etag", "{etag}"), ("other", '"abc"'), ("weak", "W/{etag}"), ("bare", "{bare}"), ("garbage", "x y"), *DATES.items()]
    for kind, meant in if_range:
        yield reads(f"condition/if-range/{kind}")(
            lambda leg, meant=meant: ask(leg, "GET", [("If-Range", meant)], Range="bytes=10-19")
        )
        yield reads(f"condition/if-range-alone/{kind}")(lambda leg, meant=meant: ask(leg, "GET", [("If-Range", meant)]))
    for name in VALUES:
        for method in ("get_object", "head_object"):
            yield reads(f"condition/sdk/{method}/{name.lower()}")(lambda leg, name=name, method=method: sdk(leg, method, name))
        yield absent(name)


def sdk(leg, method, name):
    """As the SDK writes them: its own date, its own quotes."""
    argument = name.replace("-", "")
    given = leg.seen["ETag"] if name.endswith("Match") else leg.seen["LastModified"]
    leg.call(method, Key=leg.key(), **{argument: given})
    given = '"abc"' if name.endswith("Match") else leg.seen["LastModified"] - HOUR
    leg.call(method, Key=leg.key(), **{argument: given})


def absent(name):
    meant = "*" if name.endswith("Match") else "Thu, 01 Jan 2015 00:00:00 GMT"
    return reads(f"condition/absent/{name.lower()}")(
        lambda leg: leg.raw("GET", leg.key("nothing"), headers={name: meant})
    )
