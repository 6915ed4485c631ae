"""How long hits take at a fixed rate, alone and beside bulk reads."""

from ..load import begin, collect, leg, load, warm
from ..rig import Line, Result, Table
from ..rounds import in_rounds, interval, number
from ..servers import Falcon, Groupcache, Limit, Nginx, Origin, Varnish

KIB, MIB = 1 << 10, 1 << 20
SHARE = 0.7
AT = ("p50", "p99", "p999", "max")


def tail(bench):
    keys, bulk = 1000, f"{64 * MIB}/bulk"
    seconds, rounds = bench.pick((3, 4), (1, 2))
    with bench.servers() as up:
        origin = up(Origin)
        servers = [up(Falcon, origin), up(Nginx, origin), up(Varnish, origin), up(Groupcache, origin)]
        for server in servers:
            warm(server, f"{4 * KIB}/%ld", keys)
            warm(server, bulk)
        limits = [up(Limit, 4 * KIB, "writev")]
        nginx = servers[1]
        peak = sorted(leg(nginx, f"{4 * KIB}/%ld", keys=keys, order="uniform", conns=64, seconds=bench.seconds)["rate"] for _ in range(3))[1]
        rate = int(SHARE * peak)

        def ask(server, number):
            # The clock of the client must not wait for the bulk reader, which shares its core.
            return load(server, f"{4 * KIB}/%ld", keys=keys, order="uniform", conns=64, rate=rate, seconds=seconds, seed=number + 1, nice=-15, tolerate=True)

        def beside(server, number):
            reader = begin(server, bulk, conns=8, seconds=seconds + 0.5, receive="trunc", nice=19)
            said = ask(server, number)
            said["bulk"] = (read := collect(reader))["bytes"] / read["seconds"] / 1e9
            return said

        alone = in_rounds(rounds, [*servers, *limits], ask)
        mixed = in_rounds(rounds, servers, beside)
    labels = {server.name: server.label for server in [*servers, *limits]}

    def table(results, caption, more=()):
        made = Table(caption, ["", *AT, "client late, p99", "not answered in time", *more, "Falcon's p99", "Falcon's p99.9"])
        for name, legs in results.items():
            cells = [number(interval(said["whole"][at] for said in legs)[0]) for at in AT]
            extra = [number(interval(said["bulk"] for said in legs)[0])] if more else []
            ratios = ["" if name == "falcon" else "**{:.2f}×** ({:.2f}–{:.2f})".format(*interval(
                them["whole"][at] / us["whole"][at] for us, them in zip(results["falcon"], legs, strict=True))) for at in ("p99", "p999")]
            lost = sum(said["unfinished"] + said["failed"] for said in legs)
            made.rows.append([labels[name], *cells, number(interval(said["lag"]["p99"] for said in legs)[0]), f"{lost:,}", *extra, *ratios])
        return made

    tables = [table(alone, "alone; µs from when a request was due"), table(mixed, "beside 8 streams of 64 MiB from the same server", ("bulk, GB/s",))]
    places = {"p50": "50 %", "p99": "99 %", "p999": "99.9 %", "max": "all"}
    series = {("limit" if name.startswith("limit") else name): [(place, interval(said["whole"][at] for said in legs)[0]) for place, at in enumerate(AT)]
              for name, legs in alone.items()}
    draw = {"tail": {"title": f"Hits of 4 KiB at {rate:,} a second", "x_title": "share of the requests", "y_title": "µs until they were answered",
                     "names": [places[at] for at in AT], "series": series}}
    notes = [f"The rate: {SHARE:.0%} of nginx's peak with 64 connections, which was {peak:,.0f} a second. Medians of {rounds} rounds of {seconds} s.",
             "A time counts from when the request was due, so a server that falls behind pays for all who wait. “Client late” is the client's own part."]
    return Result(f"Open loop, {rate:,} requests a second for 4 KiB on 64 connections, the same for all.", tables, notes,
                  {"charts": {"tail": "Tail at 70 % of nginx's peak"}, "draw": draw})


LINES = [Line("tail", "10", "The tail at a fixed rate", tail)]
