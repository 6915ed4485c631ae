"""Hits: small ones by CPU, large ones by CPU and rate, and the cost over all sizes."""

from ..load import leg, load, warm
from ..rig import Line, Result, Table
from ..rounds import best_of, in_rounds, of, ratio, share, spread, times
from ..servers import Falcon, Groupcache, Limit, Nginx, Origin, Seaweed, Varnish

KIB, MIB = 1 << 10, 1 << 20
SIZES = (4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB, 16 * MIB, 64 * MIB)
LABELS = {"limit": "the limit, its better mode"}
BUSY = "Where the server was not busy all the time, the rate is the client's and not the server's."


def everyone(up, size, keys):
    """All contenders, with so many objects of a size in memory and checked."""
    origin = up(Origin)
    falcon, nginx = up(Falcon, origin), up(Nginx, origin)
    sliced = [nginx.in_slices()] if size > MIB else []
    caches = [falcon, nginx, *sliced, up(Varnish, origin), up(Groupcache, origin)]
    store = up(Seaweed)
    for number in range(keys):
        store.put(f"{size}/{number}")
    for server in [*caches, store]:
        warm(server, f"{size}/%ld", keys)
    said = warm(falcon, f"{size}/%ld", keys)
    if said["sources"]["memory"] != keys:
        raise RuntimeError(f"not all hits came from Falcon's memory: {said['sources']}")
    limits = [up(Limit, size, "writev"), up(Limit, size, "sendfile")]
    for limit in limits:
        load(limit, "", requests=4, receive="check")
    return [*caches, store, *limits]


def rows(results, contenders, cost, speed):
    """A row for each contender: what it costs, how fast it was, how busy both sides were, and Falcon's ratios to it."""
    labels = {server.name: server.label for server in contenders} | LABELS
    for name in results:
        row = [labels[name], spread(of(results, name, cost)), spread(of(results, name, speed)),
               share(of(results, name, "server_busy")), share(of(results, name, "client_busy"))]
        for metric, better in ((cost, "less"), (speed, "more")):
            row.append("" if name == "falcon" else times(ratio(of(results, "falcon", metric), of(results, name, metric), better)))
        yield row


def small(bench):
    keys = 1000
    with bench.servers() as up:
        contenders = everyone(up, 4 * KIB, keys)
        results = in_rounds(bench.rounds, contenders, lambda server, number: leg(
            server, f"{4 * KIB}/%ld", keys=keys, order="uniform", conns=64, seconds=bench.seconds, seed=number + 1))
    best_of(results, ["limit-writev", "limit-sendfile"], "limit")
    table = Table("CPU of the server in µs a request; requests a second", ["", "CPU µs", "requests/s", "server busy", "client busy", "Falcon's CPU", "Falcon's rate"],
                  list(rows(results, contenders, "cpu_us", "rate")))
    return Result("1,000 objects of 4 KiB in memory, 64 connections that ask for one after the other.", [table], [BUSY])


def large(bench):
    tables = []
    with bench.servers() as up:
        contenders = everyone(up, 64 * MIB, 1)
        ways = [("copy", 1), ("copy", 8), ("trunc", 1), ("trunc", 8)]
        for receive, streams in bench.pick(ways, ways[::3]):
            results = in_rounds(bench.rounds, contenders, lambda server, _: leg(
                server, f"{64 * MIB}/0", conns=streams, seconds=bench.seconds / 2, receive=receive))
            best_of(results, ["limit-writev", "limit-sendfile"], "limit")
            how = {"copy": "a client that copies the bytes out", "trunc": "a client that drops them in the kernel"}[receive]
            tables.append(Table(f"{how}, {streams} stream{'s' * (streams > 1)}",
                                ["", "CPU s/GB", "GB/s", "server busy", "client busy", "Falcon's CPU", "Falcon's GB/s"],
                                list(rows(results, contenders, "cpu_s_gb", "gb_s"))))
    return Result("One object of 64 MiB in memory. A client that copies costs more than any server here, so its rate makes all look alike; "
                  "one that drops the bytes unread shows what the servers can do.", tables, [BUSY])


def sizes(bench):
    series, labels = {}, {}
    wanted = bench.pick(SIZES, SIZES[::3])
    for size in wanted:
        with bench.servers() as up:
            contenders = everyone(up, size, 1)
            results = in_rounds(3, contenders, lambda server, _: leg(server, f"{size}/0", conns=16, seconds=bench.seconds / 4))
            best_of(results, ["limit-writev", "limit-sendfile"], "limit")
            labels |= {server.name: server.label for server in contenders} | LABELS
        for name in results:
            middle = sorted(of(results, name, "cpu_us"))[1]
            series.setdefault(name, []).append((size, middle))
    from ..charts import size as said
    table = Table("CPU of the server in µs a request", ["", *(said(size) for size in wanted)])
    for name, points in series.items():
        cells = dict(points)
        table.rows.append([labels[name], *(f"{cells[size]:,.1f}" if size in cells else "" for size in wanted)])
    draw = {"hit-by-size": {"title": "A hit's CPU by size", "x_title": "object", "y_title": "CPU of the server, µs", "sizes": True, "series": series}}
    return Result("The same with 16 connections, over sizes; medians of three rounds.", [table],
                  data={"charts": {"hit-by-size": "A hit's CPU by size"}, "draw": draw})


LINES = [
    Line("hit-4k", "1", "A small hit", small),
    Line("hit-64m", "2", "A large hit", large),
    Line("hit-sizes", "1, 2", "A hit, by size", sizes),
]
