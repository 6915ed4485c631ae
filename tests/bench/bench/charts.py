"""SVG charts of what the lines kept: lines over a logarithmic axis, legible on light and on dark."""

import json
import math

from . import machine
from .rig import BUILT

WIDTH, HEIGHT = 760, 400
LEFT, RIGHT, TOP, BOTTOM = 84, 190, 44, 52
# Told apart also by those who see no red or green (Okabe and Ito); the limit in grey.
COLOURS = {"falcon": "#d55e00", "nginx": "#009e73", "nginx-sliced": "#56b4e9", "varnish": "#0072b2", "groupcache": "#cc79a7",
           "seaweedfs": "#e69f00", "limit": "#888888", "direct": "#888888", "direct-ranges": "#aaaaaa"}
NAMES = {"falcon": "Falcon", "nginx-sliced": "nginx, sliced", "varnish": "Varnish", "groupcache": "groupcache server", "seaweedfs": "SeaweedFS",
         "limit": "the limit", "direct": "no cache", "direct-ranges": "no cache, in parts"}
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f } .title { font-weight: 600; font-size: 15px } .small { font-size: 12px; fill: #57606a }
.grid { stroke: #d0d7de; stroke-width: 1 } .line { fill: none; stroke-width: 2 } .falcon { stroke-width: 3.5 }
@media (prefers-color-scheme: dark) { text { fill: #e6edf3 } .small { fill: #9da7b3 } .grid { stroke: #3d444d } }
</style>"""


def size(value):
    """Bytes as people say them."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if value >= unit:
            return f"{value / unit:g} {name}"
    return f"{value:g} B"


def ticks(low, high):
    """Powers of ten that hold the values, and twos and fives when there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if last - first > 3 else (1, 2, 5)
    marks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    below = max((mark for mark in marks if mark <= low), default=marks[0])
    above = min((mark for mark in marks if mark >= high), default=marks[-1])
    return [mark for mark in marks if below <= mark <= above]


def chart(title, x_title, y_title, series, x_label=str):
    """One chart. `series` is {name: [(x, y), …]}; x values are places in a row, y is logarithmic."""
    series = {name: points for name, points in series.items() if points}
    places = sorted({x for points in series.values() for x, _ in points})
    values = [y for points in series.values() for _, y in points if y > 0]
    marks = ticks(min(values), max(values))
    low, high = math.log10(marks[0]), math.log10(marks[-1]) + 1e-9

    def at(x, y):
        across = places.index(x) / max(1, len(places) - 1)
        up = (math.log10(y) - low) / max(1e-9, high - low)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">', STYLE,
           f'<text class="title" x="{LEFT}" y="22">{title}</text>',
           f'<text class="small" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 10}" text-anchor="middle">{x_title}</text>',
           f'<text class="small" transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)" text-anchor="middle">{y_title}</text>']
    for mark in marks:
        _, y = at(places[0], mark)
        out.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        out.append(f'<text class="small" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{mark:,.10g}</text>')
    for place in places:
        x, _ = at(place, marks[0])
        out.append(f'<text class="small" x="{x:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{x_label(place)}</text>')
    labels = []
    for name, points in series.items():
        colour = COLOURS.get(name, "#888888")
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in (at(*point) for point in sorted(points)))
        own = " falcon" if name == "falcon" else ""
        out.append(f'<polyline class="line{own}" stroke="{colour}" points="{path}"/>')
        out += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in (at(*point) for point in points)]
        labels.append((at(*max(points))[1], name, colour))
    # Names stand where their lines end, apart from each other.
    floor = TOP - 20
    for y, name, colour in sorted(labels):
        floor = max(y, floor + 17)
        out.append(f'<circle cx="{WIDTH - RIGHT + 16}" cy="{floor:.1f}" r="4" fill="{colour}"/>')
        out.append(f'<text x="{WIDTH - RIGHT + 26}" y="{floor + 4:.1f}">{NAMES.get(name, name)}</text>')
    return "\n".join([*out, "</svg>", ""])


def draw(quick, beside=None):
    """Draws all charts that the kept lines have figures for."""
    folder = (beside or machine.HERE) / ("tests/bench/charts" if beside else "charts")
    folder.mkdir(parents=True, exist_ok=True)
    for path in sorted((BUILT / ("quick" if quick else "full")).glob("*.json")):
        data = json.loads(path.read_text())["data"]
        for name, wanted in data.get("draw", {}).items():
            names = wanted.pop("names", None)
            label = size if wanted.pop("sizes", False) else names.__getitem__ if names else str
            series = {who: [tuple(point) for point in points] for who, points in wanted.pop("series").items()}
            (folder / f"{name}.svg").write_text(chart(series=series, x_label=label, **wanted))
