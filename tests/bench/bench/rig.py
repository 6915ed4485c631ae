"""What a line gets: how long to measure, servers that end with it, keys that nobody has asked for."""

import os
import shutil
import signal
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

from . import machine

TMPFS, PREFIX = Path("/dev/shm"), "falcon-bench."
BUILT = machine.ROOT / "target/bench"
MOST_MINUTES = {False: 60, True: 15}  # a run that hangs ends by itself


@dataclass
class Table:
    """A table of the report; the first column names the contender."""

    caption: str
    columns: list
    rows: list = field(default_factory=list)


@dataclass
class Result:
    """What a line says: how to read it, tables, remarks; `data` is for the charts."""

    read: str
    tables: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    data: dict = field(default_factory=dict)


@dataclass
class Line:
    """A line of the scoreboard: its name, its number there, a title, and what measures it."""

    name: str
    number: str
    title: str
    measure: Callable


def sweep():
    """Removes the folders of runs that were killed and could not."""
    for folder in TMPFS.glob(PREFIX + "*"):
        if not Path("/proc", folder.name.removeprefix(PREFIX).partition(".")[0]).exists():
            shutil.rmtree(folder, ignore_errors=True)


class Bench:
    """One run."""

    def __init__(self, binary, quick):
        self.binary, self.quick = binary, quick
        self.built, self.logs = BUILT / "bin", BUILT / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        # On tmpfs, so that nginx and SeaweedFS keep their files in memory like the others.
        sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}.", dir=TMPFS))
        self.running, self._up, self._fresh = [], [], 0

    def pick(self, full, quick):
        """A number of the full run, or of the quick one."""
        return quick if self.quick else full

    @property
    def rounds(self):
        """How often each contender is measured in turn."""
        return self.pick(7, 3)

    @property
    def seconds(self):
        """How long a leg takes."""
        return self.pick(1.5, 0.3)

    def fresh(self, count=1):
        """The number of a key that was never asked for; the first of several."""
        self._fresh += count
        return self._fresh - count

    @contextmanager
    def servers(self):
        """Gives a function that starts servers, and stops them all at the end, in the opposite order."""
        mine = []

        def up(kind, *arguments, **options):
            server = kind(self, *arguments, **options)
            mine.append(server)
            self._up.append(server)
            server.ready()
            return server

        try:
            yield up
        finally:
            for server in reversed(mine):
                server.stop()
                self._up.remove(server)

    def close(self):
        """Ends what still runs and removes what was written to memory."""
        for process in self.running:
            if process.poll() is None:
                process.kill()
                process.wait()
        for server in reversed(self._up):
            server.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def ending(bench):
    """However the run ends, by itself, by ^C, by SIGTERM or by its time, nothing of it stays."""

    def stop(number, _frame):
        raise SystemExit(f"ended by {signal.Signals(number).name}" + " after its longest time" * (number == signal.SIGALRM))

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, stop)
    signal.alarm(MOST_MINUTES[bench.quick] * 60)
    began = time.monotonic()
    try:
        yield lambda: time.monotonic() - began
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
            signal.signal(number, signal.SIG_IGN)
        bench.close()
