#!/usr/bin/env python3
"""A message being typed while the window changes its size, in tmux, which wraps its lines anew as most
terminals do. What stands above the message must stay, and nothing of the message may be left over.

usage: test_resize.py PROGRAM [-v] [TEST...]
"""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

PROGRAM = ""


class Resize(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="stretto-resize-"))
        self.env = {k: v for k, v in os.environ.items() if k not in ("TMUX", "NO_COLOR", "XTERM_VERSION")}
        self.env.update(HOME=str(self.dir), XDG_STATE_HOME=str(self.dir), LC_ALL="C.UTF-8", TMUX_TMPDIR=str(self.dir))
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", "60", "-y", "12", f"{PROGRAM} {self.dir}/said")
        self.shows([">"], 2)
        self.type("above")
        self.keys("Enter")
        self.shows(["> above", "got 5 bytes", ">"], 2)

    def tearDown(self):
        subprocess.run(["tmux", "kill-server"], env=self.env, capture_output=True)
        shutil.rmtree(self.dir, ignore_errors=True)

    def tmux(self, *args):
        return subprocess.run(["tmux", *args], env=self.env, capture_output=True, text=True, check=True).stdout

    def type(self, text):
        self.tmux("send-keys", "-l", text)

    def keys(self, *names):
        self.tmux("send-keys", *names)

    def resize(self, cols, rows=12):
        """Then waits: tmux wraps its lines at once and tells the program up to a quarter of a second later;
        what is typed in between is drawn for the width before."""
        self.tmux("resize-window", "-x", str(cols), "-y", str(rows))
        time.sleep(0.4)

    def rows(self):
        """Everything: what has been scrolled out, and the screen."""
        rows = [row.rstrip() for row in self.tmux("capture-pane", "-p", "-S", "-").split("\n")]
        while rows and not rows[-1]:
            rows.pop()
        return rows

    def shows(self, rows, column=None, where=""):
        end = time.monotonic() + 10
        while True:
            now, x = self.rows(), int(self.tmux("display-message", "-p", "#{cursor_x}"))
            if now == rows and column in (None, x):
                return
            if time.monotonic() > end:
                raise AssertionError(f"{where}: expected {rows} and column {column}, the screen has {now} and {x}")
            time.sleep(0.05)

    def wrapped(self, text, cols):
        rows = []
        for i, line in enumerate(text.split("\n")):
            line = (". " if i else "> ") + line
            while len(line) >= cols:
                rows.append(line[:cols].rstrip())
                line = line[cols:]
            rows.append(line.rstrip())
        return rows

    def test_every_width(self):
        """Narrower and wider by every step, the cursor at the end, in the middle, at the beginning."""
        text = "The quick brown fox jumps over the lazy dog, and the dog does not mind at all.\nSecond line"
        for line in text.split("\n")[:-1]:
            self.type(line)
            self.tmux("send-keys", "-H", "1b", "0d")                    # Alt-Enter
        self.type(text.split("\n")[-1])
        above = ["> above", "got 5 bytes"]
        widths = [59, 50, 41, 40, 39, 38, 31, 30, 20, 21, 40, 63, 40, 33, 34]
        for at, keys in ((len(text), []), (11, ["Up"]), (0, ["M-<"])):
            if keys:
                self.keys(*keys)
            # A character that is typed is shown when the program has seen the change.
            for cols in widths:
                self.resize(cols, 14)
                self.type("x")
                self.shows(above + self.wrapped(text[:at] + "x" + text[at:], cols), None, f"{at}, {cols} columns")
                self.keys("BSpace")
                self.shows(above + self.wrapped(text, cols), None, f"{at}, {cols} columns")
        self.keys("Enter")
        self.shows(above + self.wrapped(text, 34) + ["got 90 bytes", ">"], 2)

    def test_wide_characters(self):
        """One that does not fit at the end of a row goes to the next."""
        self.resize(40)
        self.type("a" * 37 + "\u65e5b")
        above = ["> above", "got 5 bytes"]
        self.shows(above + ["> " + "a" * 37, "\u65e5b"], 3)
        self.keys("Left", "Left")
        self.shows(above + ["> " + "a" * 37, "\u65e5b"], 0)
        for cols in (39, 38, 41, 50, 40):
            self.resize(cols)
            line = "a" * 37 + ("\u65e5b" if cols > 41 else "\u65e5" if cols == 41 else "")
            rest = "" if cols > 41 else "b" if cols == 41 else "\u65e5b"
            rows = ["> " + line[:cols - 2], line[cols - 2:] + rest]
            self.shows(above + [row for row in rows if row], None, f"{cols} columns")
        self.keys("Enter")
        self.shows(above + ["> " + "a" * 37, "\u65e5b", "got 41 bytes", ">"], 2)

    def test_fewer_rows(self):
        """A window that grows too low shows the part with the cursor."""
        for i in range(8):
            self.type(f"line {i}")
            self.tmux("send-keys", "-H", "1b", "0d")
        self.type("end")
        whole = ["> line 0"] + [f". line {i}" for i in range(1, 8)] + [". end"]
        self.shows(["> above", "got 5 bytes"] + whole, 5)
        self.resize(60, 5)
        self.shows_screen(whole[-5:])
        self.resize(60, 12)
        self.type("!")
        self.keys("Enter")
        end = time.monotonic() + 10
        while self.rows()[-2:] != ["got 60 bytes", ">"]:
            self.assertLess(time.monotonic(), end, self.rows())
            time.sleep(0.05)
        rows = self.rows()            # what was pushed out at the top can only be shown once more
        self.assertEqual(rows[:2], ["> above", "got 5 bytes"])
        self.assertEqual(rows[-11:-2], whole[:-1] + [". end!"])

    def shows_screen(self, rows):
        end = time.monotonic() + 10
        while True:
            now = [row.rstrip() for row in self.tmux("capture-pane", "-p").split("\n")][:len(rows)]
            if now == rows:
                return
            self.assertLess(time.monotonic(), end, f"expected {rows}, the screen has {now}")
            time.sleep(0.05)


if __name__ == "__main__":
    if not shutil.which("tmux"):
        print("skip: tmux is missing (./dev test installs it)")
        sys.exit(77)
    PROGRAM = os.path.abspath(sys.argv.pop(1))
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
