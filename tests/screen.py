"""A small terminal: what a person sees of a program, line by line, in a window of so many columns."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from codecs import getincrementaldecoder

from kagglekit.progress import columns as width_of

PIECES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]|[^\r\n\x1b]")


class Screen:
    """The lines of a terminal that scrolls without end; it knows carriage return, line feed, and erase to the end.

    moved: every text that the last line had. A line that is too long goes on in the next one.
    """

    def __init__(self, columns=80):
        self.columns, self.lines, self.at, self.moved = columns, [""], 0, []

    def feed(self, text):
        for piece in PIECES.findall(text):
            if piece == "\r":
                self.at = 0
            elif piece == "\n":
                self._remember()
                self.lines.append("")
            elif piece == "\x1b[K":
                self.lines[-1] = self.lines[-1][: self.at]
            elif not piece.startswith("\x1b"):
                if width_of(self.lines[-1][: self.at] + piece) > self.columns:
                    self.lines.append("")
                    self.at = 0
                self.lines[-1] = self.lines[-1][: self.at] + piece + self.lines[-1][self.at + 1 :]
                self.at += 1
        self._remember()
        return self

    def _remember(self):
        if not self.moved or self.moved[-1] != self.lines[-1]:
            self.moved.append(self.lines[-1])


def open_terminal(columns=80):
    """A pseudo-terminal: the file descriptor to read what it is sent, and the one that a program writes to."""
    ours, theirs = pty.openpty()
    resize(theirs, columns)
    return ours, theirs


def resize(terminal, columns):
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def run_in_terminal(command, columns=80, **options):
    """The exit code of a command, and the screen that it leaves."""
    ours, theirs = open_terminal(columns)
    screen, decoder = Screen(columns), getincrementaldecoder("utf-8")("replace")
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, **options) as process:
        os.close(theirs)
        while True:
            try:
                text = os.read(ours, 1 << 16)
            except OSError:  # its last writer has gone
                break
            if not text:
                break
            screen.feed(decoder.decode(text))
    os.close(ours)
    return process.returncode, screen
