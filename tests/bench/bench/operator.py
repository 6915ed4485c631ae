"""The operator beside an API server: calls, CPU and memory. Called by ../hooks/operator, inside `tests/cluster/up`."""

import argparse
import collections
import json
import os
import subprocess
import time
import urllib.request
from pathlib import Path

from . import machine
from .rounds import number
from .servers import until

AUDIT = Path(os.environ["FALCON_CLUSTER_LOGS"], "audit.log")
DEFINITION = machine.ROOT / "crds/falconcaches.yaml"
MOST_SECONDS = 240
MIB = 1 << 20


def kubectl(*arguments, put=None):
    done = subprocess.run(["kubectl", *arguments], input=put, stdout=subprocess.PIPE, check=True, text=True)
    return done.stdout


def cache(namespace, name):
    return {"apiVersion": "falconcache.io/v1alpha1", "kind": "FalconCache", "metadata": {"name": name, "namespace": namespace},
            "spec": {"replicas": 1, "origin": {"buckets": ["bucket"]}}}


def create(caches):
    kubectl("create", "-f", "-", put=json.dumps({"apiVersion": "v1", "kind": "List", "items": caches}))


class Operator:
    """The process, as users start it but for the leader's Lease."""

    def __init__(self, binary):
        self.port = machine.free_port()
        log = open(AUDIT.with_name("operator.log"), "ab")
        self.process = subprocess.Popen(
            [binary, "run", "--watch-namespaces=one,many", "--leader-election=false", f"--admin-port={self.port}",
             "--log-level=warn"], stderr=log, stdout=log, stdin=subprocess.DEVNULL)
        until("the operator answers", self.answers)

    def answers(self):
        try:
            return self.page() is not None
        except OSError:
            return False

    def page(self):
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=5) as answer:
            return answer.read().decode()

    def total(self, name):
        return sum(float(line.rsplit(" ", 1)[1]) for line in self.page().splitlines() if line.startswith(f"falcon_operator_{name}"))

    def reconciles(self):
        return self.total("reconciles_total")

    def writes(self):
        return self.total("writes_total")

    def cpu(self):
        return machine.cpu_seconds([self.process.pid])

    def peak(self):
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))

    def quiet(self, seconds=2):
        """Waits until it has written nothing for so long; when it wrote last."""
        seen, since = -1, time.monotonic()
        while time.monotonic() - since < seconds:
            now = self.writes()
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(0.05)
        return since

    def stop(self):
        self.process.terminate()
        self.process.wait()


def calls(namespace):
    """What the operator asked of the API server in a namespace, by verb."""
    count = collections.Counter()
    for line in AUDIT.read_text().splitlines():
        event = json.loads(line)
        about = event.get("objectRef", {})
        if about.get("namespace") != namespace or not is_operator(event) or event["verb"] in ("list", "watch"):
            continue
        count[f"{event['verb']} {about['resource']}{'/' * ('subresource' in about)}{about.get('subresource', '')}"] += 1
    return count


def is_operator(event):
    # Kubernetes' own components and kubectl name themselves.
    return not event.get("userAgent", "").startswith(("kube", "etcd"))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("binary")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    many, idle = (50, 5) if asked.quick else (1000, 60)

    kubectl("create", "-f", str(DEFINITION))
    kubectl("wait", "--for=condition=Established", "crd/falconcaches.falconcache.io")
    for namespace in ("one", "many"):
        kubectl("create", "namespace", namespace)

    operator = Operator(asked.binary)
    create([cache("one", "alone")])
    until("a status", lambda: kubectl("get", "fcache", "alone", "-n", "one", "-o", "jsonpath={.status.replicas}") == "1", pause=0.1)
    operator.quiet()
    one = calls("one")
    reads = sum(times for call, times in one.items() if call.startswith("get "))
    statuses = sum(times for call, times in one.items() if call.endswith("/status"))
    writes = one.total() - reads - statuses

    cpu, reconciled = operator.cpu(), operator.reconciles()
    began = time.monotonic()
    create([cache("many", f"cache-{each}") for each in range(many)])
    created = time.monotonic() - began
    count = lambda: len(kubectl("get", "statefulsets", "-n", "many", "-o", "name").splitlines())
    until("a StatefulSet for each", lambda: count() == many, MOST_SECONDS, 0.5)
    applied = time.monotonic() - began
    settled = operator.quiet() - began
    busy, looks = operator.cpu() - cpu, operator.reconciles() - reconciled
    peak = operator.peak()
    operator.stop()

    began = time.monotonic()
    operator = Operator(asked.binary)
    until("a look at each", lambda: operator.reconciles() >= many + 1, MOST_SECONDS)
    resynced = time.monotonic() - began
    operator.quiet()
    rewritten = operator.writes()
    cpu, reconciled, began = operator.cpu(), operator.reconciles(), time.monotonic()
    time.sleep(idle)
    idle_looks, idle_cpu = operator.reconciles() - reconciled, operator.cpu() - cpu
    share = idle_cpu / (time.monotonic() - began)
    idle_writes = operator.writes() - rewritten
    restarted = operator.peak()
    operator.stop()

    tables = [
        {"caption": "one new cache, until nothing more is written", "columns": ["", "calls"],
         "rows": [["writes of objects", str(writes)], ["writes of its status", str(statuses)], ["reads", str(reads)]]},
        {"caption": f"{many:,} caches", "columns": ["", "figure"], "rows": [
            ["created by kubectl after", f"{created:.1f} s"], ["each has its StatefulSet after", f"{applied:.1f} s"],
            ["nothing more is written after", f"{settled:.1f} s"], ["reconciles till then", f"{looks:,.0f}"],
            ["CPU of the operator a reconcile", f"{number(busy / looks * 1e6)} µs"], ["its peak memory", f"{peak / MIB:.0f} MiB"],
            ["started again: a look at each after", f"{resynced:.2f} s"], ["… and writes", f"{rewritten:.0f}"], ["… and peak memory", f"{restarted / MIB:.0f} MiB"],
            [f"{idle} s of idleness: reconciles", f"{idle_looks:,.0f}"], ["… writes", f"{idle_writes:.0f}"],
            ["… CPU a reconcile", f"{number(idle_cpu / idle_looks * 1e6)} µs" if idle_looks else "–"], ["… CPU", f"{100 * share:.2f} % of a core"],
        ]},
    ]
    notes = ["The calls by verb: " + ", ".join(f"{count} × {call}" for call, count in sorted(one.items())) + ".",
             "API server, etcd and controllers share the two cores, and the pods are never started: times are the API server's more than the operator's."]
    print(json.dumps({"read": "The operator at a real API server (etcd, controllers, no nodes); calls as the audit log has them.", "tables": tables, "notes": notes}))


main()
