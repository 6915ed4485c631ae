"""The memory's bound in a storm: cold reads of far more than fits, and very many clients that hardly read."""

import threading

from .. import machine
from ..load import begin, collect
from ..rig import Line, Result, Table
from ..rounds import number
from ..servers import Falcon, Groupcache, Nginx, Origin, Varnish

MIB = 1 << 20
BUDGET = 1024
OBJECT = 16 * MIB


class Peak:
    """Watches how much memory a server takes, until it is told to stop."""

    def __init__(self, server):
        self.server, self.over, self.bytes, self.sockets = server, threading.Event(), 0, 0
        self.began = machine.socket_memory()
        self.thread = threading.Thread(target=self.watch, daemon=True)
        self.thread.start()

    def watch(self):
        while not self.over.wait(0.1):
            self.bytes = max(self.bytes, self.server.memory())
            self.sockets = max(self.sockets, machine.socket_memory() - self.began)

    def stop(self):
        self.over.set()
        self.thread.join()
        return self.bytes, self.sockets


def storm(bench):
    calm, wild = bench.pick((8, 20), (3, 4))
    slow_clients = bench.pick(1000, 200)
    table = Table(f"budget {BUDGET} MiB; rate of the 64 streams without and with the slow clients", [
        "", "peak memory", "of the budget", "kernel's buffers", "calm, GB/s", "stormy, GB/s", "kept", "failed, of the streams"])
    for kind in (Falcon, Nginx, Varnish, Groupcache):
        with bench.servers() as up:
            origin = up(Origin)
            server = up(kind, origin, mb=BUDGET)

            def streams(seconds, seed):
                # 200 objects of 16 MiB are three times the budget: most reads are cold, and many bring back what was thrown out.
                return begin(server, f"{OBJECT}/storm-%ld", keys=200, order="uniform", conns=64, seconds=seconds, receive="check", seed=seed)

            peak = Peak(server)
            before = collect(streams(calm, 1), tolerate=True)
            slow = begin(server, f"{OBJECT}/storm-%ld", keys=200, order="uniform", conns=slow_clients, seconds=wild + 1, read_rate=65536, seed=3)
            after = collect(streams(wild, 2), tolerate=True)
            collect(slow, tolerate=True)
            bytes_, sockets = peak.stop()
        rates = [said["bytes"] / said["seconds"] / 1e9 for said in (before, after)]
        failed = before["failed"] + after["failed"]
        table.rows.append([server.label, f"{bytes_ / MIB:,.0f} MiB", f"**{bytes_ / MIB / BUDGET:.2f}×**", f"{sockets / MIB:,.0f} MiB", *map(number, rates),
                           f"{rates[1] / rates[0]:.2f}×" if rates[0] else "", f"{failed} of {before['requests'] + after['requests']}"])
    notes = ["Peak memory is the process's, files on tmpfs included, looked at ten times a second. The kernel's buffers are those of all sockets on the machine, clients' too.",
             "A failed stream was refused (503) or cut; what was sent was right, every byte."]
    return Result(f"64 streams read objects of 16 MiB, three times as many as fit; then {slow_clients:,} further clients take 64 KiB a second each.", [table], notes)


LINES = [Line("storm", "9", "The memory's bound in a storm", storm)]
