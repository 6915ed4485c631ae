"""The way through a peer: what a hit costs at a node that doesn't own it, without replicas."""

from ..load import leg, load, warm
from ..rig import Line, Result, Table
from ..rounds import in_rounds, interval, of, spread, times
from ..servers import Falcon, Limit, Origin, until

KIB, MIB = 1 << 10, 1 << 20
EXTENT = 16 * MIB


class At(Falcon):
    """A ring asked at one of its nodes."""

    def __init__(self, ring, name, label, node):
        self.__dict__ = dict(ring.__dict__)
        self.name, self.label, self.everybody = name, label, ring
        self.ports = [ring.ports[node]]

    def cpu(self):
        return self.everybody.cpu()


def owned_by_one(ring, size):
    """A key all of whose extents belong to one node of two, and that node's number."""
    for number in range(10000):
        key = f"{size}/hop-{number}"
        extents = ring.ring(ring.ports[0], key)["object"]["extents"][:max(1, size // EXTENT)]
        owners = {extent["owners"][0] for extent in extents}
        if len(owners) == 1:
            port = int(owners.pop().rpartition(":")[2].strip("/"))
            return key, ring.ports.index(port)
    raise RuntimeError("no key belongs to one node")


def hop(bench):
    table = Table("CPU of both nodes; without replicas, so that each request goes the whole way", ["", "CPU µs, at the owner", "CPU µs, at the other", "the hop"])
    waits = Table("one connection, µs to the whole answer in the median", ["", "at the owner", "at the other", "added", "one round trip to the limit"])
    past = []
    with bench.servers() as up:
        origin = up(Origin)
        ring = up(Falcon, origin, nodes=2, more=("--replica-share", 0))
        for size, name, conns in ((4 * KIB, "4 KiB", 64), (64 * MIB, "64 MiB", 8)):
            key, owner = owned_by_one(ring, size)
            near, far = At(ring, "near", "at the owner", owner), At(ring, "far", "at the other", 1 - owner)
            warm(near, key)
            # A peer that is slow to answer is passed over, and the origin asked: not on a machine that is quiet.
            until("the answer comes from the peer", lambda key=key, far=far: warm(far, key)["sources"]["peer"] == 1)
            origin.set()
            results = in_rounds(bench.rounds, [near, far], lambda server, _: leg(server, key, conns=conns, seconds=bench.seconds, receive="trunc"))
            pairs = zip(of(results, "far", "cpu_us"), of(results, "near", "cpu_us"), strict=True)
            table.rows.append([f"**Falcon**, {name}", spread(of(results, "near", "cpu_us")), spread(of(results, "far", "cpu_us")),
                               times(interval(a / b for a, b in pairs))])
            if size == 4 * KIB:
                limit = up(Limit, size, "writev")
                alone = in_rounds(bench.rounds, [near, far, limit], lambda server, _: load(server, key, seconds=bench.seconds / 2))
                p50 = {who: [said["whole"]["p50"] for said in legs] for who, legs in alone.items()}
                waits.rows.append([f"**Falcon**, {name}", spread(p50["near"]), spread(p50["far"]),
                                   spread([a - b for a, b in zip(p50["far"], p50["near"], strict=True)]), spread(p50["limit-writev"])])
            past.append(origin.stats()["Gets"])
    notes = [f"Reads that went past the peer to the origin meanwhile: {sum(past)}."]
    return Result("A ring of two. A hit at the node that owns the object, and at the other one, which asks the owner. nginx and Varnish have no ring; "
                  "groupcache keeps a copy of all that passes, so its hop is seen in the mix of “More nodes” only.", [table, waits], notes)


LINES = [Line("hop", "6", "A hop to a peer", hop)]
