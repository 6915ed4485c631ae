"""Memory beside what is stored: many small objects, and a few large ones."""

import time

from ..load import load
from ..rig import Line, Result, Table
from ..rounds import number
from ..servers import Falcon, Groupcache, Nginx, Origin, Varnish

KIB, MIB = 1 << 10, 1 << 20


def settled(server):
    """The memory once it has come to rest: unchanged for a second, or after ten."""
    before, end = server.memory(), time.monotonic() + 10
    while time.monotonic() < end:
        time.sleep(1)
        after = server.memory()
        if abs(after - before) < MIB:
            break
        before = after
    return server.memory()


def overhead(bench):
    small, large = bench.pick((200_000, 64), (20_000, 8))
    # A key of 48 bytes, as they are in buckets.
    kinds = [(f"{4 * KIB}/" + "k" * 33 + "%010ld", small, 4 * KIB), (f"{64 * MIB}/%ld", large, 64 * MIB)]
    table = Table("memory of the process, files on tmpfs included, less what it took when it was empty and less the objects' bytes",
                  ["", f"{small:,} × 4 KiB: bytes an object", "of the payload", f"{large} × 64 MiB: MiB an object", "of the payload"])
    for kind in (Falcon, Nginx, Varnish, Groupcache):
        cells = []
        for key, count, size in kinds:
            with bench.servers() as up:
                payload = count * size
                server = up(kind, up(Origin), mb=payload * 3 // 2 // MIB + 512)
                empty = server.memory()
                load(server, key, keys=count, requests=count, conns=16 if size < MIB else 2, receive="check", timeout=500)
                extra = settled(server) - empty - payload
                cells += [number(extra / count / (1 if size < MIB else MIB)), f"{(extra + payload) / payload:.3f}×"]
                label = server.label
        table.rows.append([label, *cells])
    notes = ["nginx keeps files: a header and a body of 4 KiB take two pages. Go lets its heap grow to twice what is in use before it collects."]
    return Result("What a cache takes beside the bytes that it was given to keep. Each read cold and checked, then left alone until its memory is at rest.", [table], notes)


LINES = [Line("memory", "8", "Memory beside the objects", overhead)]
