"""What is left of the good answers while some of S3's come a byte a second."""

from ..load import load
from ..rig import Line, Result, Table
from ..rounds import number
from ..servers import Falcon, Origin

KIB = 1 << 10
NODES, RATE, SHARE = 3, 60, 5


def crawl(bench):
    first, later = bench.pick((75, 30), (2, 1))
    table = Table(f"{RATE} misses a second; times in ms, of the answers that came", [
        "answers of S3 that crawl", "when", "answered", "failed", "not answered in time", "p50", "p90", "GETs at S3", "reads of S3 left"])
    for share in (0, SHARE):
        with bench.servers() as up:
            origin = up(Origin)
            falcon = up(Falcon, origin, nodes=NODES)
            origin.set(True, crawl=share)
            for when, seconds in (f"the first {first} s", first), (f"{later} s after that", later):
                key = f"{64 * KIB}/crawl-{bench.fresh()}-%ld"
                said = load(falcon, key, keys=RATE * seconds, conns=2000, rate=RATE, seconds=seconds, receive="check", tolerate=True)
                good, stats = (said["requests"] - said["failed"]) / (RATE * seconds), origin.stats()
                table.rows.append([f"{share} %", when, f"**{good:.1%}**", f"{said['failed']:,}", f"{said['unfinished']:,}", number(said["whole"]["p50"] / 1e3),
                                   number(said["whole"]["p90"] / 1e3), f"{stats['Gets']:,}", f"{stats['InFlight']:,}"])
    notes = ["Every request is for another object of 64 KiB. Answered in time is what came before five seconds after the last request was due.",
             "A read of S3 that crawls is counted apart, so that it holds up no other, and asked for again after ten seconds."]
    return Result(f"{NODES} nodes, an origin like S3 of whose answers {SHARE} % come a byte a second.", [table], notes)


LINES = [Line("crawl", "9b", "While S3 crawls now and then", crawl)]
