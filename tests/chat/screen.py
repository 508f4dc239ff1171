"""A program on a pseudo-terminal, and the screen that a terminal emulator (pyte) makes of its output."""
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

import pyte


class Screen:
    def __init__(self, argv, env, cols=80, rows=24):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            self.size(cols, rows, fd=0)
            os.execve(argv[0], [str(a) for a in argv], env)
        self.size(cols, rows)
        self.screen = pyte.HistoryScreen(cols, rows, history=10000, ratio=0.5)
        self.stream = pyte.ByteStream(self.screen)
        self.raw, self.alive = b"", True

    def size(self, cols, rows, fd=None):
        fcntl.ioctl(self.fd if fd is None else fd, termios.TIOCSWINSZ,
                    struct.pack("HHHH", rows, cols, 0, 0))

    def resize(self, cols, rows):
        """The terminal's lines are cut and padded, not wrapped anew, as xterm does it."""
        self.screen.resize(rows, cols)
        self.size(cols, rows)

    def type(self, text):
        os.write(self.fd, text.encode() if isinstance(text, str) else text)

    def take(self, seconds):
        """Shows what comes within the time; False when nothing came."""
        if not self.alive or not select.select([self.fd], [], [], seconds)[0]:
            return False
        try:
            block = os.read(self.fd, 65536)
        except OSError:
            block = b""
        self.alive = bool(block)
        self.raw += block
        self.stream.feed(block)
        return True

    def lines(self):
        """The rows of the screen down to the last that is not blank."""
        rows = [row.rstrip() for row in self.screen.display]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def scrolled(self):
        """Rows that have left the screen at its top."""
        return ["".join(row[x].data for x in range(self.screen.columns)).rstrip()
                for row in self.screen.history.top]

    def cursor(self):
        return self.screen.cursor.y, self.screen.cursor.x

    def wait(self, true, what, seconds=10):
        end = time.monotonic() + seconds
        while not true():
            if not self.take(0.1) and not self.alive or time.monotonic() > end:
                raise AssertionError(f"waited for {what}; the screen has {self.lines()}, "
                                     f"the cursor is at {self.cursor()}")

    def shows(self, pattern, seconds=10):
        self.wait(lambda: re.search(pattern, "\n".join(self.lines())), pattern, seconds)

    def is_(self, lines, cursor=None, seconds=10):
        """The last rows, down to the cursor's at least, are these; the cursor is (rows from the last up,
        column)."""
        def same():
            rows, (y, x) = self.lines(), self.cursor()
            rows += [""] * (y + 1 - len(rows))
            return rows[-len(lines):] == lines and cursor in (None, (len(rows) - 1 - y, x))
        self.wait(same, f"{lines} and the cursor at {cursor}", seconds)

    def code(self, seconds=10):
        self.wait(lambda: not self.alive, "the end", seconds)
        status = os.waitpid(self.pid, 0)[1]
        os.close(self.fd)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def end(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            self.code()
