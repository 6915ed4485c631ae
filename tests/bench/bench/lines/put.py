"""Writes through Falcon to a real store, against writing to the store directly."""

import http.client
import time

from .. import body
from ..rig import Line, Result, Table
from ..rounds import in_rounds, interval, of, spread, times
from ..servers import Falcon, Seaweed, ask

KIB, MIB = 1 << 10, 1 << 20
BOUNDARY = "falcon-bench-boundary"


class Writer:
    """One client with one connection to a server."""

    def __init__(self, server, name, label):
        self.server, self.name, self.label = server, name, label
        self.connection = http.client.HTTPConnection("127.0.0.1", server.ports[0], timeout=60)

    def write(self, key, content):
        """Seconds from the request's head to its answer."""
        if isinstance(self.server, Seaweed):
            method, path, headers, parts = "PUT", f"/bucket/{key}", {}, [content]
        else:
            folder, _, name = key.partition("/")
            head = (f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n'
                    "Content-Type: application/octet-stream\r\n\r\n").encode()
            method, path, parts = "POST", f"/upload?path={folder}/", [head, content, f"\r\n--{BOUNDARY}--\r\n".encode()]
            headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
        began = time.perf_counter()
        self.connection.putrequest(method, path)
        for name, value in {**headers, "Content-Length": str(sum(map(len, parts)))}.items():
            self.connection.putheader(name, value)
        self.connection.endheaders()
        for part in parts:
            self.connection.send(part)
        answer = self.connection.getresponse()
        said = answer.read()
        took = time.perf_counter() - began
        if answer.status // 100 != 2:
            raise RuntimeError(f"{self.name} did not take {key}: {answer.status} {said[:300]}")
        return took


def put(bench):
    table = Table("ms a write", ["", "64 MiB", "against direct", "4 KiB", "against direct", "the first read after it came from"])
    with bench.servers() as up:
        store = up(Seaweed)
        through = up(Falcon, store, mb=1024)
        keeping = up(Falcon, store, mb=1024, more=("--cache-on-write",))
        writers = [Writer(store, "direct", "SeaweedFS directly"), Writer(through, "falcon", "**Falcon**"),
                   Writer(keeping, "keeping", "**Falcon**, `--cache-on-write`")]
        sources, cells = {}, {writer.name: [writer.label] for writer in writers}
        for size, count in ((64 * MIB, 1), (4 * KIB, bench.pick(40, 10))):
            def one(writer, _):
                first = bench.fresh(count)
                keys = [f"{size}/put-{writer.name}-{first + i}" for i in range(count)]
                contents = [body.of(key) for key in keys]
                took = sum(writer.write(key, content) for key, content in zip(keys, contents, strict=True)) / count
                prefix, _ = writer.server.address("")
                status, headers, got = ask(writer.server.ports[0], prefix + keys[-1])
                if status != 200 or got != contents[-1]:
                    raise RuntimeError(f"{keys[-1]} is not read as it was written")
                sources.setdefault(writer.name, set()).add(headers.get("x-falcon-cache", "the store"))
                return {"ms": took * 1e3}

            one(writers[0], 0), one(writers[1], 0), one(writers[2], 0)  # connections, volumes
            results = in_rounds(bench.rounds, writers, one)
            direct = of(results, "direct", "ms")
            for writer in writers:
                mine = of(results, writer.name, "ms")
                cells[writer.name] += [spread(mine), "" if writer.name == "direct" else times(interval(a / b for a, b in zip(mine, direct, strict=True)))]
    table.rows = [[*row, ", ".join(sorted(sources[name]))] for name, row in cells.items()]
    notes = ["Here a ratio above 1 is what Falcon adds: a write through it is a write to the store, and a barrier at all nodes before it answers.",
             "SeaweedFS and Falcon share one core; a PUT through Falcon is read and written once more."]
    return Result("One client writes and waits for the answer, by PUT to SeaweedFS or by `/upload` to Falcon in front of it. Each last object is read back and compared.", [table], notes)


LINES = [Line("put", "14", "A write through Falcon", put)]
