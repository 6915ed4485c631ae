"""The lines of the scoreboard, in its order."""

from . import cold, herd, hit, hooks, hop, memory, put, ranges, scale, start, storm, tail

ALL = [*hit.LINES, *cold.LINES, *herd.LINES, *hop.LINES, *ranges.LINES, *memory.LINES, *storm.LINES, *tail.LINES, *scale.LINES,
       *hooks.LINES, *put.LINES, *start.LINES]
