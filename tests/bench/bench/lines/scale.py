"""More nodes: what a request costs in a ring of one, two and four, replicas included."""

from ..load import leg, load
from ..rig import Line, Result, Table
from ..rounds import in_rounds, interval, of, spread, times
from ..servers import Falcon, Groupcache, Origin

SIZE, MEMORY = 4096, 512
COUNTS = (1, 2, 4)


def scale(bench):
    keys = bench.pick(20000, 4000)
    table = Table(f"CPU of all nodes in µs a request; {keys:,} objects of 4 KiB, Zipf 0.99, asked at random nodes; {MEMORY} MB in all",
                  ["", *(f"{count} node{'s' * (count > 1)}" for count in COUNTS), *(f"efficiency at {count}" for count in COUNTS[1:])])
    series = {}
    with bench.servers() as up:
        origin = up(Origin)
        for kind in (Falcon, Groupcache):
            rings = []
            for count in COUNTS:
                ring = up(kind, origin, mb=MEMORY // count, nodes=count)
                ring.name = f"{count}"
                load(ring, f"{SIZE}/%ld", keys=keys, requests=2 * keys, conns=16, receive="check")
                load(ring, f"{SIZE}/%ld", keys=keys, requests=bench.pick(200000, 20000), conns=16, order="zipf")
                rings.append(ring)
            results = in_rounds(bench.rounds, rings, lambda ring, number: leg(
                ring, f"{SIZE}/%ld", keys=keys, order="zipf", conns=64, seconds=bench.seconds, seed=number + 1))
            costs = [of(results, f"{count}", "cpu_us") for count in COUNTS]
            table.rows.append([rings[0].label, *map(spread, costs), *(times(interval(one / many for one, many in zip(costs[0], each, strict=True))) for each in costs[1:])])
            if kind is Falcon:
                said = load(rings[-1], f"{SIZE}/%ld", keys=keys, requests=20000, conns=16, order="zipf", receive="check", seed=99)["sources"]
                hops = said["peer"] / sum(said.values())
            series[kind.name] = [(count, interval(each)[0]) for count, each in zip(COUNTS, costs, strict=True)]
    draw = {"scale-out": {"title": "A request's CPU in a ring", "x_title": "nodes", "y_title": "CPU of all nodes, µs a request", "series": series}}
    notes = [f"In Falcon's ring of {COUNTS[-1]}, {hops:.1%} of the answers took a hop; the others came from the node's own objects and its replicas.",
             "Simulated: all nodes share one core, so more of them can't answer more. What is told is the CPU that a request costs, which is what a cluster would have to buy."]
    return Result("A ring of N nodes with the same memory in all. Efficiency: the CPU of a request at one node, divided by that in the ring.", [table], notes,
                  {"charts": {"scale-out": "CPU a request by nodes"}, "draw": draw})


LINES = [Line("scale-out", "6, 11", "More nodes", scale)]
