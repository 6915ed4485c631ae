"""Cold reads: whole objects, by size, and the first byte of a large one, against no cache at all."""

from ..load import Wrong, leg, load
from ..machine import CORES
from ..rig import Line, Result, Table
from ..rounds import in_rounds, interval, number, of, ratio, spread, times
from ..servers import Falcon, Groupcache, Nginx, Origin, Varnish

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
FULL = 512  # MiB of memory for a cache that is to be full, as caches are
PART = 8 * MIB  # of the client that reads in parallel by itself; what Falcon's parts are, and what AWS advises
UNPINNED = "Nothing is pinned here: without a cache half of the machine would idle."


class Ranges(Origin):
    """No cache, and a client that reads parts in parallel by itself."""

    def __init__(self, origin):
        self.__dict__ = dict(origin.__dict__)
        self.name, self.label = "direct-ranges", "no cache: parts of 8 MiB in parallel"


def contenders(up, mb):
    """All that can be cold, on all cores."""
    origin = up(Origin, cores=CORES)
    nginx = up(Nginx, origin, mb=mb, cores=CORES)
    return origin, [up(Falcon, origin, mb=mb, cores=CORES), nginx, nginx.in_slices(), up(Varnish, origin, mb=mb, cores=CORES),
                    up(Groupcache, origin, mb=mb, cores=CORES), origin, Ranges(origin)]


def read(server, size, count=1):
    """Reads objects that nobody has read, one after the other, and checks them: seconds an object."""
    first = server.bench.fresh(count)
    if isinstance(server, Ranges):
        parts = max(1, size // PART)
        said = [load(server, f"{size}/cold-{first + i}", conns=min(8, parts), requests=parts, range=min(size, PART), object=size,
                     range_order="sequence", receive="check", cores=CORES) for i in range(count)]
        return {"seconds": sum(each["seconds"] for each in said) / count, "cpu_s_gib": 0.0}
    said = leg(server, f"{size}/cold-%ld", first=first, keys=count, requests=count, receive="check", cores=CORES)
    return {"seconds": said["seconds"] / count, "cpu_s_gib": said["cpu_s_gb"] * GIB / 1e9}


def compared(results, servers, caption):
    table = Table(caption, ["", "ms an object", "server's CPU s/GiB", "Falcon's time"])
    ours = of(results, "falcon", "seconds")
    for server in servers:
        theirs = of(results, server.name, "seconds")
        costs = of(results, server.name, "cpu_s_gib")
        table.rows.append([server.label, spread([s * 1e3 for s in theirs]), "" if isinstance(server, Origin) else spread(costs),
                           "" if server.name == "falcon" else times(ratio(ours, theirs, "less"))])
    return table


def large(bench):
    tables = []
    for shaped, how in ((False, "an origin on loopback that holds nothing back"),
                        (True, "an origin like S3: first byte at 30 ms in the median and 200 ms in the 99th percentile, 80 MB/s a stream")):
        with bench.servers() as up:
            origin, servers = contenders(up, FULL)
            for server in servers:
                read(server, 64 * MIB, FULL // 64 + 1)

            def one(server, number):
                # Each meets the same delays, as far as it asks in the same order.
                origin.set(shaped, seed=number + 1)
                return read(server, 64 * MIB, 1 if shaped else bench.pick(3, 1))

            results = in_rounds(bench.rounds, servers, one)
            tables.append(compared(results, servers, how))
    return Result(f"An object of 64 MiB that is in no cache yet, read by one client to its last byte, every byte checked. The caches have {FULL} MiB and are full, "
                  f"as caches are: what comes takes the place of something else. {UNPINNED}", tables)


def by_size(bench):
    wanted = bench.pick((4 * KIB, MIB, 8 * MIB, 64 * MIB, 256 * MIB), (4 * KIB, MIB, 16 * MIB))
    series = {}
    with bench.servers() as up:
        origin, servers = contenders(up, 6144)
        for size in wanted:
            def one(server, number):
                origin.set(True, seed=number + 1)
                return read(server, size, 1)
            results = in_rounds(3, servers, one)
            for server in servers:
                series.setdefault(server.name, []).append((size, sorted(of(results, server.name, "seconds"))[1] * 1e3))
        labels = {server.name: server.label for server in servers}
    from ..charts import size as said
    table = Table("ms an object", ["", *(said(size) for size in wanted)])
    table.rows += [[labels[name], *(number(value) for _, value in points)] for name, points in series.items()]
    draw = {"cold-by-size": {"title": "A cold read by size, from an origin like S3", "x_title": "object", "y_title": "ms to the last byte",
                             "sizes": True, "series": series}}
    return Result(f"The same from the origin like S3, over sizes; medians of three rounds. {UNPINNED}", [table],
                  data={"charts": {"cold-by-size": "A cold read by size"}, "draw": draw})


def first_byte(bench):
    count, few = bench.pick(100, 10), bench.pick(3, 1)
    with bench.servers() as up:
        origin, servers = contenders(up, 3072)
        servers = [server for server in servers if server.name not in ("nginx", "direct-ranges")]
        for server in servers[:-1]:
            read(server, 64 * MIB, bench.pick(3072 // 64 + 1, 1))
        times_of, gets = {server.name: [] for server in servers}, dict.fromkeys((server.name for server in servers), 0)
        size = {server.name: 256 * MIB if bench.quick and server.whole else GIB for server in servers}
        for sample in range(count):
            for server in servers if sample % 2 == 0 else servers[::-1]:
                if server.whole and sample >= few:
                    continue
                # A new setting also cuts what the origin still sends for the sample before.
                origin.set(True, seed=sample + 1)
                said = load(server, f"{size[server.name]}/first-{bench.fresh()}", requests=1, abandon=1, cores=CORES)
                if not said["first_byte"]["count"]:
                    raise Wrong(f"{server.name} sent no byte")
                times_of[server.name].append(said["first_byte"]["max"] / 1e3)
                gets[server.name] += origin.stats()["Gets"]
    table = Table("ms to the first byte of the body; requests that the origin had got by then",
                  ["", "median", "p90", "p99", "requests each", "added in the median, ms", "Falcon's median"])
    for server in servers:
        samples = times_of[server.name]
        values = sorted(samples)
        at = [values[min(len(values) - 1, int(len(values) * share))] for share in (0.5, 0.9, 0.99)]
        added = None
        if server.whole:
            at[1:] = [None, None]
        elif server.name != "direct":
            # Each sample has the same delay for all: what is left of the difference is the cache's own.
            added = interval(mine - theirs for mine, theirs in zip(samples, times_of["direct"], strict=True))
        table.rows.append([server.label, *("" if value is None else number(value) for value in at), number(gets[server.name] / len(values)),
                           "" if not added else f"{added[0]:.2f} ({added[1]:.2f}–{added[2]:.2f})",
                           "" if server.name == "falcon" else f"**{at[0] / sorted(times_of['falcon'])[len(times_of['falcon']) // 2]:.2f}×**"])
    notes = [f"The groupcache server reads whole objects before it answers; {few} sample{'s' * (few > 1)} of it."]
    return Result(f"An object of 1 GiB that is in no cache yet, from the origin like S3: {count} samples, one client that hangs up at the first byte. {UNPINNED}",
                  [table], notes)


LINES = [
    Line("cold-64m", "3", "A cold read", large),
    Line("cold-sizes", "3", "A cold read, by size", by_size),
    Line("first-byte", "4", "The first byte of a cold 1 GiB object", first_byte),
]
