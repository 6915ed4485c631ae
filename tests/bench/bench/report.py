"""Keeps what each line said, and makes BENCHMARKS.md of all that is kept."""

import dataclasses
import datetime
import json

from . import machine
from .rig import BUILT, Result, Table

CONFIGS = ["nginx.conf", "varnish.vcl", "varnish.flags", "falcon.flags", "seaweedfs.flags", "groupcache.flags"]

INTRODUCTION = """\
What a read through Falcon costs beside nginx, Varnish, SeaweedFS read directly, and a server on groupcache, all under the same load in the same run;
and how far each is from what the kernel allows. `tests/bench/run` wrote this page; nothing in it was typed by hand.

- **×** tells how many times better Falcon is than the one in that row: above 1 Falcon wins, below 1 it loses. In brackets: the 95 % interval.
- **The limit** is a small server in C that answers each request with the same bytes from memory, by `writev` or `sendfile`, whichever is cheaper. It caches nothing: no server can do less. A ratio of 0.8× to it is 80 % of what is possible.
- **CPU of the server comes first.** Client and server share this machine, so a rate also measures the client; CPU time of the server's processes measures the server alone.
"""


def keep(bench, line, result):
    """Writes down what a line said, with when and of what."""
    folder = BUILT / ("quick" if bench.quick else "full")
    folder.mkdir(parents=True, exist_ok=True)
    kept = {"commit": machine.commit(), "date": datetime.date.today().isoformat(), "binary": bench.binary.stat().st_size,
            "facts": machine.facts(), **dataclasses.asdict(result)}
    (folder / f"{line.name}.json").write_text(json.dumps(kept, indent=1))


def kept(quick, line):
    """What a line said last; None when it never ran."""
    path = BUILT / ("quick" if quick else "full") / f"{line.name}.json"
    return json.loads(path.read_text()) if path.exists() else None


def markdown(table):
    """A table in Markdown: names to the left, figures to the right."""
    lines = [f"| {' | '.join(table.columns)} |", "|---|" + "--:|" * (len(table.columns) - 1)]
    return [f"*{table.caption}*", "", *lines, *(f"| {' | '.join(row)} |" for row in table.rows), ""]


def write(quick, all_lines):
    """Writes the page: the repository's own of a full run, one beside the results of a quick one."""
    said = [(line, kept(quick, line)) for line in all_lines]
    present = [each for _, each in said if each]
    newest = max(present, key=lambda each: each["date"], default=None)
    page = ["# Benchmarks", ""]
    if quick:
        page += ["**From a quick run: it shows that the bench works. Its figures are worth nothing.**", ""]
    page += [INTRODUCTION]
    if newest:
        page += head(newest)
    for line, each in said:
        page += [f"## {line.title}", ""]
        if not each:
            page += ["Not measured.", ""]
            continue
        if (each["commit"], each["date"]) != (newest["commit"], newest["date"]):
            page += [f"*Measured at commit `{each['commit']}` on {each['date']}.*", ""]
        result = Result(each["read"], [Table(**table) for table in each["tables"]], each["notes"])
        page += [result.read, ""]
        page += [f"![{caption}](tests/bench/charts/{name}.svg)\n" for name, caption in each["data"].get("charts", {}).items()]
        for table in result.tables:
            page += markdown(table)
        page += [f"- {note}" for note in result.notes] + [""]
    path = BUILT / "quick/BENCHMARKS.md" if quick else machine.ROOT / "BENCHMARKS.md"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(page).rstrip() + "\n")
    return path


def head(newest):
    """Machine, versions, settings."""
    facts = newest["facts"]
    configs = ", ".join(f"[{name}](tests/bench/configs/{name})" for name in CONFIGS)
    return [
        "| | |", "|---|---|",
        f"| commit | `{newest['commit']}`, {newest['date']} |",
        f"| machine | {facts['machine']} |",
        f"| rivals | nginx {facts['nginx']}, Varnish {facts['varnish']}, SeaweedFS of [requirements.txt](tests/requirements.txt), "
        f"groupcache-go {facts['groupcache']} in [a server of our own](tests/bench/groupcache/main.go), {facts['go']} |",
        f"| settings, each with its reason | {configs} |",
        "| layout | everything on loopback; servers on one core, clients on the other, unless a line says otherwise |", "",
    ]
