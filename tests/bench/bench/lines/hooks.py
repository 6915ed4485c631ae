"""Lines that are measured inside the real code, by commands of their own.

`../hooks/NAME` is run from the repository's root, with `--quick` in a quick run, and before all lines with `--build`. It prints one JSON object:
{"read": "one sentence", "tables": [{"caption": …, "columns": […], "rows": [[…], …]}], "notes": […]}, all of it text.
"""

import json
import subprocess

from .. import machine
from ..rig import Line, Result, Table

FOLDER = machine.HERE / "hooks"
MOST_SECONDS = 600


def hook(name):
    def measure(bench):
        command = FOLDER / name
        if not command.exists():
            return Result(f"Not measured: there is no `tests/bench/hooks/{name}`.")
        with open(bench.logs / f"{name}.log", "wb") as log:
            done = subprocess.run([command, *(["--quick"] if bench.quick else [])], cwd=machine.ROOT, stdout=subprocess.PIPE, stderr=log,
                                  timeout=MOST_SECONDS, check=True, stdin=subprocess.DEVNULL)
        said = json.loads(done.stdout)
        return Result(said["read"], [Table(**table) for table in said["tables"]], said.get("notes", []))

    return measure


LINES = [Line("ring", "12", "The ring", hook("ring")), Line("hit-ratio", "13", "The hit ratio", hook("hit-ratio")),
         Line("operator", "15 and 16", "The operator", hook("operator"))]
