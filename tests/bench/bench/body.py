"""Objects made of their keys, as in origin/body.go and body.h."""

from functools import cache

MIB = 1 << 20
_MASK = (1 << 64) - 1


def _mix(x):
    x = (x + 0x9E3779B97F4A7C15) & _MASK
    x = ((x ^ x >> 30) * 0xBF58476D1CE4E5B9) & _MASK
    x = ((x ^ x >> 27) * 0x94D049BB133111EB) & _MASK
    return x ^ x >> 31


@cache
def _table():
    return b"".join(_mix(i).to_bytes(8, "little") for i in range(MIB // 8)) * 2


def of(key):
    """All bytes of a key's object."""
    seed = 14695981039346656037
    for byte in key.encode():
        seed = ((seed ^ byte) * 1099511628211) & _MASK
    size, table, pieces = int(key.partition("/")[0]), _table(), []
    for block in range(0, (size + MIB - 1) // MIB):
        at = _mix((seed + block) & _MASK) % MIB
        pieces.append(table[at:at + min(MIB, size - block * MIB)])
    return b"".join(pieces)
