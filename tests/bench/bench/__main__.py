"""Runs lines and writes the report: `python3 -m bench [--quick] --binary PATH [LINE...]`; see ../run."""

import argparse
import sys
import traceback
from pathlib import Path

from . import charts, lines, report
from .rig import Bench, ending


def main():
    parser = argparse.ArgumentParser(prog="tests/bench/run", description="The benchmark of Falcon.")
    parser.add_argument("--quick", action="store_true", help="a few minutes: whether it works, not what it is worth")
    parser.add_argument("--binary", type=Path, required=True, help="the falcon-cache to measure")
    parser.add_argument("lines", nargs="*", metavar="LINE", help="only these: " + " ".join(line.name for line in lines.ALL))
    asked = parser.parse_args()
    known = {line.name: line for line in lines.ALL}
    if unknown := [name for name in asked.lines if name not in known]:
        parser.error(f"no such line: {' '.join(unknown)}; there are {' '.join(known)}")
    chosen = [known[name] for name in asked.lines] or lines.ALL

    bench = Bench(asked.binary.resolve(), asked.quick)
    failed = 0
    with ending(bench) as elapsed:
        for line in chosen:
            began = elapsed()
            print(f"{line.name:<16}", end="", flush=True)
            try:
                result = line.measure(bench)
            except Exception as error:
                failed += 1
                print(f"{elapsed() - began:5.0f} s, failed: {error}", flush=True)
                traceback.print_exc(file=sys.stderr)
                continue
            report.keep(bench, line, result)
            print(f"{elapsed() - began:5.0f} s" + ("" if result.tables else ", not measured"), flush=True)
        print(f"{len(chosen) - failed} measured, {failed} failed, in {elapsed() / 60:.1f} minutes")
    where = report.write(asked.quick, lines.ALL)
    charts.draw(asked.quick, where.parent if asked.quick else None)
    print(f"written: {where}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
