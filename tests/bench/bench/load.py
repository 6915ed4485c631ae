"""Runs the C client, and reads what a server spent meanwhile."""

import json
import subprocess

from . import machine


class Wrong(Exception):
    """A measurement that must not count: an answer failed, or its bytes were not the object's."""


def load(server, key, *, cores=None, ports=None, nice=0, tolerate=False, timeout=180, **options):
    """One run of the client against a server, to its end."""
    return collect(begin(server, key, cores=cores, ports=ports, nice=nice, **options), tolerate, timeout)


def begin(server, key, *, cores=None, ports=None, nice=0, **options):
    """Starts a run that goes on beside others."""
    prefix, key = server.address(key)
    words = [server.bench.built / "load", "--ports", ",".join(map(str, ports or server.ports)), "--prefix", prefix, "--key", key]
    for name, value in options.items():
        words += ["--" + name.replace("_", "-"), value]
    running = machine.spawn(words, cores or machine.CLIENT, subprocess.PIPE, nice)
    server.bench.running.append(running)
    running.words = " ".join(map(str, words))
    return running


def collect(running, tolerate=False, timeout=180):
    """What a run said. Failures and wrong bytes are an error, wrong bytes always."""
    try:
        output, _ = running.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        running.kill()
        raise Wrong(f"no end in {timeout} s: {running.words}") from None
    try:
        said = json.loads(output)
    except ValueError:
        raise Wrong(f"{running.words}: {output.decode(errors='replace')[-500:]}") from None
    if said["wrong"] or (not tolerate and (said["failed"] or said["unfinished"])):
        raise Wrong(f"{said['failed']} failed, {said['wrong']} wrong, {said['unfinished']} unfinished: {running.words}")
    return said


def leg(server, key, **options):
    """A run with the server's part: CPU a request and a GB, and how busy both sides were."""
    before = server.cpu()
    said = load(server, key, **options)
    return with_costs(said, server.cpu() - before)


def with_costs(said, spent):
    """Adds to a run what the server spent on it."""
    requests, gigabytes = max(1, said["requests"]), max(1e-9, said["bytes"] / 1e9)
    return {
        **said,
        "cpu_us": spent / requests * 1e6,
        "cpu_s_gb": spent / gigabytes,
        "client_us": said["cpu"] / requests * 1e6,
        "rate": requests / said["seconds"],
        "gb_s": gigabytes / said["seconds"],
        "server_busy": spent / said["seconds"],
        "client_busy": said["cpu"] / said["seconds"],
    }


def warm(server, key, keys=1, conns=8, **options):
    """Brings objects in and checks every byte of them, twice; the second time they have to come from the cache."""
    for _ in range(2):
        said = load(server, key, keys=keys, requests=keys, conns=min(conns, keys), receive="check", **options)
    return said
