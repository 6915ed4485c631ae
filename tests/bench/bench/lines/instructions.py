"""Instructions a hit, counted by callgrind: the figure that is the same in every run, whatever else the machine does."""

import re

from ..load import load
from ..rig import Line, Result, Table
from ..servers import Falcon, Nginx, Origin

KIB, MIB = 1 << 10, 1 << 20
START_SECONDS, STOP_SECONDS = 60, 60


def counted(kind):
    """This server under callgrind."""

    class Counted(kind):
        patience = START_SECONDS

        def run(self, command, environment=None):
            self.counts = self.bench.folder / f"callgrind-{self.bench.fresh()}"
            super().run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={self.counts}.%p", *command], environment)

        def total(self):
            """Ends the server: its instructions from exec to exit."""
            self.processes[0].terminate()
            self.processes[0].wait(STOP_SECONDS)
            texts = [path.read_text() for path in self.counts.parent.glob(self.counts.name + ".*")]
            return sum(int(found) for text in texts for found in re.findall(r"^(?:summary|totals): (\d+)", text, re.M)[:1])

    return Counted


def spent(bench, kind, size, requests):
    with bench.servers() as up:
        server = up(counted(kind), up(Origin), mb=256)
        load(server, f"{size}/0", requests=requests, receive="check")
        return server.total()


def instructions(bench):
    table = Table("instructions a hit", ["", "4 KiB", "1 MiB"])
    few = 100
    for kind in (Falcon, Nginx):
        row = [kind.label]
        for size, more in ((4 * KIB, bench.pick(2000, 500)), (MIB, bench.pick(300, 100))):
            row.append(f"{(spent(bench, kind, size, few + more) - spent(bench, kind, size, few)) / more:,.0f}")
        table.rows.append(row)
    return Result("One connection; what a server executes for so many hits more, by callgrind. What the kernel does for it is not in this figure.", [table])


LINES = [Line("instructions", "1", "Instructions a hit", instructions)]
