"""The lines of the scoreboard, in its order."""

from . import cold, crawl, herd, hit, hooks, hop, instructions, memory, put, ranges, scale, start, storm, tail

ALL = [*hit.LINES, *instructions.LINES, *cold.LINES, *herd.LINES, *hop.LINES, *ranges.LINES, *memory.LINES, *storm.LINES, *crawl.LINES, *tail.LINES, *scale.LINES,
       *hooks.LINES, *put.LINES, *start.LINES]
