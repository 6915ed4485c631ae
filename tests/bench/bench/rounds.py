"""Medians of rounds, and ratios with intervals."""

import random
from statistics import median

RESAMPLES = 2000
MORE_IS_BETTER = ("rate", "gb_s", "server_busy")
FIGURES = ("cpu_us", "cpu_s_gb", "rate", "gb_s", "server_busy", "client_busy")


def interval(values):
    """The median, and the 95 % bootstrap interval of it."""
    values = list(values)
    draw = random.Random(1)
    medians = sorted(median(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    return median(values), medians[int(RESAMPLES * 0.025)], medians[int(RESAMPLES * 0.975)]


def ratio(ours, theirs, better):
    """How many times better we are, round by round: above 1 is a win. `better` is "less" or "more"."""
    pairs = zip(ours, theirs, strict=True)
    return interval(them / us if better == "less" else us / them for us, them in pairs)


def in_rounds(count, contenders, leg):
    """Runs leg(contender, round) for all in each round, every other round backwards, so that a drift of the machine
    meets all alike (A B B A). The results by name, in rounds."""
    results = {contender.name: [] for contender in contenders}
    for number in range(count):
        for contender in contenders if number % 2 == 0 else contenders[::-1]:
            results[contender.name].append(leg(contender, number))
    return results


def of(results, name, metric):
    """One metric of one contender, in rounds."""
    return [leg[metric] for leg in results[name]]


def best_of(results, names, name):
    """Replaces contenders by one that is, in each round and figure, their best: the limit is its modes' best."""
    legs = zip(*(results.pop(each) for each in names), strict=True)
    results[name] = [{figure: (max if figure in MORE_IS_BETTER else min)(leg[figure] for leg in choice) for figure in FIGURES} for choice in legs]


def spread(values):
    """A median and its interval, as text."""
    middle, low, high = interval(values)
    return f"{number(middle)} ({number(low)}–{number(high)})"


def share(values):
    """The median of shares, in percent."""
    return f"{100 * median(values):.0f} %"


def times(triple):
    """A ratio and its interval, as text."""
    middle, low, high = triple
    return f"**{middle:.2f}×** ({low:.2f}–{high:.2f})"


def number(value):
    """Three digits that count."""
    if value == 0:
        return "0"
    digits = max(0, 2 - int(f"{value:e}".partition("e")[2]))
    return f"{value:,.{min(digits, 4)}f}"
