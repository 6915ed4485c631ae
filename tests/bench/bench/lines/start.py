"""Starting: from exec to ready, to the first answers; and what is there before anything is asked."""

import os
import shutil
import socket
import time
from pathlib import Path

from .. import machine
from ..rig import Line, Result, Table
from ..rounds import number, spread
from ..servers import Falcon, Groupcache, Nginx, Origin, Seaweed, Varnish, ask

MIB = 1 << 20


def opens(port, deadline):
    """Waits until somebody listens."""
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.0002)
    raise TimeoutError("nobody listens")


def start(bench):
    repeats = bench.pick(15, 3)
    table = Table("ms since exec", ["", "ready", "the first miss is answered", "the same again, a hit", "ready, against Falcon"])
    figures = {}
    with bench.servers() as up:
        origin = up(Origin)
        for _ in range(repeats):
            for kind in (Falcon, Nginx, Varnish, Groupcache):
                began = time.monotonic()
                server = kind(bench, origin, mb=512)
                try:
                    port, deadline = server.ports[0], began + 20
                    opens(getattr(server, "admins", server.ports)[0], deadline)
                    while not (said := server.answers(port)):
                        time.sleep(0.0002)
                    ready = time.monotonic()
                    marks = [ready]
                    path = server.address("")[0] + f"4096/start-{bench.fresh()}"
                    for _ in range(2):
                        said = ask(port, path)
                        if not said or said[0] != 200 or len(said[2]) != 4096:
                            raise RuntimeError(f"{server.name}: {said and said[0]}")
                        marks.append(time.monotonic())
                finally:
                    server.stop()
                figures.setdefault(server.label, []).append([(mark - began) * 1e3 for mark in marks])
    ours = None
    for label, rows in figures.items():
        ready, miss, hit = zip(*rows, strict=True)
        ours = ours or sorted(ready)[len(ready) // 2]
        table.rows.append([label, spread(ready), spread(miss), spread(hit), "" if label == Falcon.label else f"**{sorted(ready)[len(ready) // 2] / ours:.2f}×**"])
    notes = ["Ready: Falcon's `/readyz` says so; of the others, the first answer to any request, which the origin has to give. Varnish compiles its settings with a C compiler each time.",
             "Includes the bench's own part: a Python that forks, and polls every 0.2 ms."]
    return Result(f"{repeats} starts of each, one node, an origin that holds nothing back.", [table], notes)


def footprint(bench):
    table = Table("MiB", ["", "program", "idle, resident", "processes"])
    with bench.servers() as up:
        origin = up(Origin)
        programs = {"falcon": bench.binary, "nginx": shutil.which("nginx"), "varnish": shutil.which("varnishd"), "groupcache": bench.built / "groupcache",
                    "seaweedfs": seaweed()}
        for server in (up(Falcon, origin, mb=512), up(Nginx, origin, mb=512), up(Varnish, origin, mb=512), up(Groupcache, origin, mb=512), up(Seaweed)):
            table.rows.append([server.label, number(os.path.getsize(programs[server.name]) / MIB), number(machine.resident(server.pids()) / MIB), f"{len(server.pids())}"])
    notes = ["nginx and Varnish are linked with libraries of the system, which their programs' sizes leave out; Falcon's, Go's and SeaweedFS's hold all they need."]
    return Result("The program's file, and what its processes hold in memory when they have been asked nothing but whether they are there.", [table], notes)


def seaweed():
    """The program behind the package's `weed`, which may be a script that starts it."""
    weed = Path(machine.ROOT, "target/venv/bin/weed").resolve()
    found = [path for path in weed.parents[1].glob("lib/python*/site-packages/seaweedfs*/**/*weed*") if path.is_file() and os.access(path, os.X_OK)]
    return max([weed, *found], key=os.path.getsize)


LINES = [Line("start", "17", "A start", start), Line("footprint", "18", "What it takes", footprint)]
