"""Ranges of a large object: what they cost warm, and what is read from the origin for them cold."""

from ..load import Wrong, leg, load, warm
from ..rig import Line, Result, Table
from ..rounds import in_rounds, interval, of, ratio, spread, times
from ..servers import Falcon, Groupcache, Nginx, Origin, Varnish

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


def contenders(up, origin):
    return [up(Falcon, origin, mb=2560, more=("--max-blob-size", 2048)), up(Nginx, origin, mb=2560).in_slices(), up(Varnish, origin, mb=2560),
            up(Groupcache, origin, mb=2560)]


def warm_ranges(bench):
    size = bench.pick(GIB, 256 * MIB)
    with bench.servers() as up:
        servers = contenders(up, up(Origin))
        for server in servers:
            warm(server, f"{size}/ranges", timeout=400)
            load(server, f"{size}/ranges", requests=64, conns=4, range=MIB, object=size, range_order="uniform", receive="check")
            warm(server, f"{MIB}/whole")

        def both(server, number):
            ranges = leg(server, f"{size}/ranges", conns=16, seconds=bench.seconds, range=MIB, object=size, range_order="uniform", seed=number + 1)
            return {**ranges, "whole_us": leg(server, f"{MIB}/whole", conns=16, seconds=bench.seconds / 2)["cpu_us"]}

        results = in_rounds(bench.rounds, servers, both)
    table = Table(f"ranges of 1 MiB, aligned, at random places of an object of {size // MIB} MiB in memory; CPU of the server in µs a request",
                  ["", "a range", "a whole object of 1 MiB", "range against whole", "Falcon's CPU a range"])
    for server in servers:
        ours, wholes = of(results, server.name, "cpu_us"), of(results, server.name, "whole_us")
        table.rows.append([server.label, spread(ours), spread(wholes), times(interval(a / b for a, b in zip(ours, wholes, strict=True))),
                           "" if server.name == "falcon" else times(ratio(of(results, "falcon", "cpu_us"), ours, "less"))])
    return Result("Warm ranges. A range of a large object reads memory that no core's cache holds; the whole object of 1 MiB is asked for again and again.", [table])


def cold_ranges(bench):
    count = bench.pick(64, 16)
    object_size = bench.pick(GIB, 256 * MIB)
    table = Table(f"{count} ranges at random places of an object of {object_size // MIB} MiB that is in no cache yet; bytes read from the origin for a byte asked for",
                  ["", "1 MiB, aligned", "64 KiB, aligned"])
    rows = {}
    for size in (MIB, 64 * KIB):
        # A start for each size: a cache that reads it all reads a GiB here.
        with bench.servers() as up:
            origin = up(Origin)
            for server in contenders(up, origin):
                origin.set(False)
                said = load(server, f"{object_size}/cold-ranges-{bench.fresh()}", requests=count, conns=4, range=size, object=object_size,
                            range_order="uniform", receive="check", seed=7)
                if said["bytes"] < count * size:
                    raise Wrong(f"{server.name} sent {said['bytes']} bytes for {count * size}")
                rows.setdefault(server.label, []).append(f"{origin.quiet()['Bytes'] / (count * size):.2f}×")
    table.rows = [[label, *cells] for label, cells in rows.items()]
    return Result("Cold ranges, the origin unshaped.", [table])


LINES = [Line("ranges-warm", "7", "Ranges of a large object, warm", warm_ranges), Line("ranges-cold", "7", "Ranges of a large object, cold", cold_ranges)]
