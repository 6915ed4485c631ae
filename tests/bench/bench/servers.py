"""The servers: how each is started, addressed, measured and stopped. Their settings are in ../configs."""

import http.client
import json
import shlex
import shutil
import time
from copy import copy

from . import body, machine

CONFIGS = machine.HERE / "configs"


def flags(name):
    """The words of a flags file, comments left out."""
    lines = (CONFIGS / name).read_text().splitlines()
    return [word for line in lines if not line.startswith("#") for word in shlex.split(line)]


def until(what, condition, seconds=20.0, pause=0.005):
    """Waits for a condition, to a deadline."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"not in {seconds:.0f} s: {what}")
        time.sleep(pause)
    return found


def ask(port, path, method="GET", content=None, headers=None, timeout=60):
    """One request on a connection of its own: status, headers, body. None when nobody answers."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
        connection.request(method, path, content, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    except OSError:
        return None
    finally:
        connection.close()


class Server:
    """A server, or several nodes of one: processes, ports, costs."""

    name = label = ""
    prefix = "/bucket/"
    config = None
    patience = 20.0  # seconds from exec to the first answer, at most
    whole = False  # it reads all of an object before it sends any of it

    def __init__(self, bench, cores=None):
        self.bench, self.cores = bench, cores or machine.SERVER
        self.ports, self.processes, self.folders = [], [], []

    def folder(self):
        path = self.bench.folder / f"{self.name}-{machine.free_port()}"
        path.mkdir()
        self.folders.append(path)
        return path

    def run(self, command, environment=None):
        with open(self.bench.logs / f"{self.name}.log", "ab") as log:
            self.processes.append(machine.spawn(command, self.cores, log, environment=environment))

    def address(self, key):
        """Prefix and key as this server wants them."""
        return self.prefix, key

    def answers(self, port):
        return ask(port, self.prefix + "0/ready", timeout=5)

    def ready(self):
        for port in self.ports:
            until(f"{self.name} answers", lambda port=port: self.alive() and self.answers(port), self.patience)

    def alive(self):
        for process in self.processes:
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} has ended: see {self.bench.logs / self.name}.log")
        return True

    def pids(self):
        return [pid for process in self.processes for pid in machine.tree(process.pid)]

    def cpu(self):
        return machine.cpu_seconds(self.pids())

    def memory(self):
        """Bytes of memory, files on tmpfs included."""
        return machine.resident(self.pids()) + sum(map(machine.stored, self.folders))

    def stop(self):
        pids = self.pids()
        for process in self.processes:
            process.terminate()
        deadline = time.monotonic() + 2
        machine.end(pids, deadline)
        for process in self.processes:
            process.wait()
        for folder in self.folders:
            shutil.rmtree(folder, ignore_errors=True)


class Origin(Server):
    """The S3 behind; also what "no cache" is."""

    name, label = "direct", "no cache: one GET"

    def __init__(self, bench, cores=None):
        super().__init__(bench, cores or machine.CLIENT)
        self.ports = [machine.free_port()]
        self.run([bench.built / "origin", "-port", self.ports[0]])

    def set(self, shaped=False, seed=1, slow=0, crawl=0):
        ask(self.ports[0], f"/_origin/set?shaped={int(shaped)}&seed={seed}&slow={slow}&crawl={crawl}", "POST")

    def stats(self):
        return json.loads(ask(self.ports[0], "/_origin/stats")[2])

    def quiet(self):
        """Waits until nobody reads, and gives the counters."""
        return until("the origin is quiet", lambda: (s := self.stats())["InFlight"] == 0 and s, 60, 0.05)


class Falcon(Server):
    """falcon-cache, alone or as a ring."""

    name, label, prefix = "falcon", "**Falcon**", "/get?key="
    config = "falcon.flags"
    keys = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}

    def __init__(self, bench, origin, mb=1024, nodes=1, more=(), cores=None):
        super().__init__(bench, cores)
        self.ports = [machine.free_port() for _ in range(nodes)]
        self.admins = [machine.free_port() for _ in range(nodes)]
        peers = ",".join(f"http://127.0.0.1:{port}" for port in self.ports)
        ring = ["--peers", peers, "--host", "127.0.0.1"] if nodes > 1 else []
        for port, admin in zip(self.ports, self.admins, strict=True):
            self.run([bench.binary, *flags(self.config), "--s3-endpoint", f"http://127.0.0.1:{origin.ports[0]}", "--listen", "127.0.0.1",
                      "--port", port, "--admin-port", admin, "--max-cache-size", mb, *ring, *more], self.keys)

    def answers(self, port):
        answer = ask(self.admins[self.ports.index(port)], "/readyz", timeout=5)
        return answer and answer[0] == 200

    def ready(self):
        super().ready()
        for port in self.ports:
            until("each node sees all serve", lambda port=port: self.serving(port) == max(1, len(self.ports)))

    def serving(self, port):
        """Nodes that serve, as the one at that port sees them."""
        return sum(member["state"] == "serving" for member in self.ring(port)["members"])

    def ring(self, port, key=None):
        return json.loads(ask(port, "/ring" + (f"?key={key}" if key else ""))[2])


class Limit(Server):
    """The least that a server can do, in one of its modes."""

    def __init__(self, bench, size, mode):
        super().__init__(bench)
        self.name, self.label = f"limit-{mode}", f"the limit ({mode})"
        self.size, self.ports = size, [machine.free_port()]
        self.run([bench.built / "limit", self.ports[0], size, mode])

    def address(self, key):
        return "/", f"{self.size}/limit"


class Nginx(Server):
    """proxy_cache on tmpfs: whole objects, or slices of 1 MiB."""

    name, label, config = "nginx", "nginx", "nginx.conf"

    def __init__(self, bench, origin, mb=1024, cores=None):
        super().__init__(bench, cores)
        self.sliced = False
        folder = self.folder()
        self.ports = [machine.free_port()]
        text = (CONFIGS / self.config).read_text()
        words = {"DIR": folder, "PORT": self.ports[0], "ORIGIN": origin.ports[0], "SIZE": mb, "ZONE": 128,
                 "USER": "user root;" if machine.os.geteuid() == 0 else ""}
        for word, value in words.items():
            text = text.replace(f"@{word}@", str(value))
        (folder / "nginx.conf").write_text(text)
        self.run(["nginx", "-p", folder, "-c", folder / "nginx.conf", "-e", folder / "error.log"])

    def in_slices(self):
        """The other way into the same server."""
        other = copy(self)
        other.sliced, other.name, other.label = True, "nginx-sliced", "nginx, slices of 1 MiB"
        return other

    def address(self, key):
        return "/sliced/" if self.sliced else "/bucket/", key


class Varnish(Server):
    """Varnish, objects in malloc."""

    name, label, config = "varnish", "Varnish", "varnish.vcl"

    def __init__(self, bench, origin, mb=1024, cores=None):
        super().__init__(bench, cores)
        folder = self.folder()
        self.ports = [machine.free_port()]
        (folder / "cache.vcl").write_text((CONFIGS / self.config).read_text().replace("@ORIGIN@", str(origin.ports[0])))
        self.run(["varnishd", *flags("varnish.flags"), "-n", folder / "work", "-f", folder / "cache.vcl",
                  "-a", f"127.0.0.1:{self.ports[0]}", "-s", f"malloc,{mb}M", "-T", "none"])

    def memory(self):
        return machine.resident(self.pids())  # its folder is mapped, and so counted


class Groupcache(Server):
    """Our small server on groupcache-go."""

    name, label, config, whole = "groupcache", "groupcache server", "groupcache.flags", True

    def __init__(self, bench, origin, mb=1024, nodes=1, cores=None):
        super().__init__(bench, cores)
        self.ports = [machine.free_port() for _ in range(nodes)]
        peers = ",".join(f"127.0.0.1:{port}" for port in self.ports) if nodes > 1 else ""
        for port in self.ports:
            self.run([bench.built / "groupcache", "-self", f"127.0.0.1:{port}", "-peers", peers, "-cache-size", mb,
                      "-origin", f"http://127.0.0.1:{origin.ports[0]}/bucket/"])


class Seaweed(Server):
    """SeaweedFS at its S3 port: a store, and what reading it directly costs."""

    name, label, config = "seaweedfs", "SeaweedFS, read directly", "seaweedfs.flags"
    listeners = ("master", "volume", "filer", "s3")

    def __init__(self, bench, cores=None):
        super().__init__(bench, cores)
        folder = self.folder()
        ports = {f"-{listener}.port{grpc}": machine.free_port() for listener in self.listeners for grpc in ("", ".grpc")}
        ports |= {f"-s3.port.{listener}": machine.free_port() for listener in ("iceberg", "lance")}
        self.ports = [ports["-s3.port"]]
        self.run([machine.ROOT / "target/venv/bin/weed", *flags(self.config), f"-dir={folder}", *(f"{flag}={port}" for flag, port in ports.items())])

    def ready(self):
        # The volumes come after the port, with the first bytes: it is ready when it stores some.
        def stores(path, content):
            answer = self.alive() and ask(self.ports[0], path, "PUT", content)
            return answer and answer[0] // 100 == 2
        until("SeaweedFS has a bucket", lambda: stores("/bucket", b""), 40, 0.1)
        until("SeaweedFS stores", lambda: stores("/bucket/ready", b"some bytes"), 40, 0.1)

    def put(self, key):
        """Stores the object that the others read from the origin."""
        answer = ask(self.ports[0], f"/bucket/{key}", "PUT", body.of(key))
        if not answer or answer[0] // 100 != 2:
            raise RuntimeError(f"SeaweedFS did not store {key}: {answer}")
