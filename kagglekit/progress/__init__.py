"""Progress of a notebook: what it does, how far it is, and how long all of it still takes."""

from kagglekit.progress.line import UNITS, Line, clock, columns, compose, time_unit
from kagglekit.progress.phases import VARIABLE, Interrupted, Progress, command, conclude, pack, parts, say, track
