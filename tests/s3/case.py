"""What a case is, and the bytes that cases store."""

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass


@dataclass
class Case:
    """A named scenario: the same calls on each way to S3, whose answers must be the same.

    A reading case is set up once, directly, under a key that nothing has read before, and all ways read that key: the
    first one cold. An `own` case writes: each way has a prefix of its own, of the same length. `needs` names what the
    caller has to give for it: `versions`, `domain`, or `blob`, whose ways are those of the blob API."""

    name: str
    act: Callable
    setup: Callable | None = None
    own: bool = False
    needs: str | None = None


# The least that a part may have which is not the last.
FULL = 5 << 20


@functools.lru_cache(maxsize=24)
def content(size, seed=1):
    """Bytes that no other size or seed has, the same in each run."""
    return random.Random(f"{size} {seed}").randbytes(size)


def reads(name, size=1000, setup=None, **stored):
    """A decorator: the function is a reading case of an object of that size, stored with these arguments."""
    return lambda act: Case(name, act, setup or store(size, **stored))


def store(size, **stored):
    """What sets a reading case up: an object of that size, and what S3 says of it."""

    def setup(leg):
        leg.put(content(size), **stored)
        return leg.direct.s3.head_object(Bucket=leg.bucket, Key=leg.key())

    return setup


def writes(name, **more):
    """A decorator: the function is a writing case."""
    return lambda act: Case(name, act, own=True, **more)
