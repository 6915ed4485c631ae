"""A herd: very many clients that all ask for one cold object at the same moment."""

from ..load import Wrong, load
from ..rig import Line, Result, Table
from ..rounds import number
from ..servers import Falcon, Groupcache, Limit, Nginx, Origin, Varnish

MIB = 1 << 20
NODES = 4


def herd(bench):
    clients, size = bench.pick((1000, 64 * MIB), (100, 16 * MIB))
    table = Table("read from the origin: bytes in sizes of the object; the last client's end, and against the bound",
                  ["", "origin's bytes", "origin's GETs", "failed", "median client, s", "last client, s", "of the bound", "memory in use, rise"])

    def ask_all(server, key):
        return load(server, key, conns=clients, requests=clients, receive="check", tolerate=True, timeout=400)

    with bench.servers() as up:
        said = ask_all(up(Limit, size, "writev"), "")
        alone = said["seconds"]
    with bench.servers() as up:
        origin = up(Origin)
        falcon = up(Falcon, origin, mb=1024, nodes=NODES)
        origin.set(True, seed=1)
        fill = load(falcon, f"{size}/herd-{bench.fresh()}", requests=1, receive="check")["seconds"]
    bound = fill + alone

    def one(start, label, repeats=1):
        for repeat in range(repeats):
            with bench.servers() as up:
                origin = up(Origin)
                server = start(up, origin)
                origin.set(True, seed=repeat + 1)
                before = server.memory()
                said = ask_all(server, f"{size}/herd-{bench.fresh()}")
                if said["unfinished"]:
                    raise Wrong(f"{server.name}: {said['unfinished']} clients got no answer")
                after, stats = server.memory(), origin.quiet()
            table.rows.append([label, f"{stats['Bytes'] / size:.3f}", f"{stats['Gets']}", f"{said['failed']}",
                               number(said["whole"]["p50"] / 1e6), number(said["seconds"]), f"{said['seconds'] / bound:.2f}×", f"{(after - before) / MIB:.0f} MiB"])

    one(lambda up, origin: up(Falcon, origin, mb=1024, nodes=NODES), f"**Falcon**, {NODES} nodes", bench.pick(2, 1))
    one(lambda up, origin: up(Groupcache, origin, mb=1024, nodes=NODES), f"groupcache server, {NODES} nodes")
    one(lambda up, origin: up(Nginx, origin).in_slices(), "nginx, slices of 1 MiB, one node")
    one(lambda up, origin: up(Nginx, origin), "nginx, one node")
    one(lambda up, origin: up(Varnish, origin), "Varnish, one node")
    notes = [f"The bound: one cold read of the object by one client alone ({fill:.2f} s) and then what the limit takes to send it to all of them ({alone:.1f} s). "
             "A server that sends while it reads can be below it.",
             f"{NODES} nodes share one core here with each other, and a node that doesn't own a block has it from its owner: bytes that nginx and Varnish, "
             "one node each, never move. They have no ring: with four of them S3 is read four times."]
    return Result(f"{clients:,} clients ask at the same moment for one object of {size // MIB} MiB that is in no cache yet, from the origin like S3. "
                  f"Every byte of all {clients:,} answers is checked.", [table], notes)


LINES = [Line("herd", "5", "A herd on a cold object", herd)]
