#!/usr/bin/env python3
"""Typing messages: keys, pasting, several lines, history, signals; looked at on the screen of an emulated
terminal (pyte). The program is chat_lines, which reads messages as `stretto chat` does.

usage: test_lines.py PROGRAM DATA [-v] [TEST...]
"""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

try:
    from screen import Screen
except ImportError as missing:
    print(f"skip: {missing}; ./dev test installs it into build/venv")
    sys.exit(77)

PROGRAM = DATA = ""
UP, DOWN, RIGHT, LEFT, ALT_ENTER = "\x1b[A", "\x1b[B", "\x1b[C", "\x1b[D", "\x1b\r"


def pasted(text):
    """As a terminal sends it: line ends are carriage returns."""
    data = text.encode() if isinstance(text, str) else text
    return b"\x1b[200~" + data.replace(b"\n", b"\r") + b"\x1b[201~"


class Lines(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="stretto-lines-"))
        self.out = self.dir / "said"
        self.env = dict(os.environ, TERM="xterm", HOME=str(self.dir), XDG_STATE_HOME=str(self.dir / "state"))
        for name in ("NO_COLOR", "XTERM_VERSION", "LC_ALL", "LANG", "LC_CTYPE"):
            self.env.pop(name, None)
        self.screen = None

    def tearDown(self):
        if self.screen:
            self.screen.end()
        shutil.rmtree(self.dir, ignore_errors=True)

    def open(self, cols=40, rows=12, argv=None):
        self.screen = Screen(argv or [PROGRAM, self.out], self.env, cols, rows)
        self.screen.is_([">"], (0, 2))
        return self.screen

    def said(self, *expected):
        """What was sent so far; None is an interruption or the end."""
        def now():
            text = self.out.read_text() if self.out.exists() else ""
            return [json.loads(line) for line in text.splitlines() if text.endswith("\n")]
        self.screen.wait(lambda: now() == list(expected), f"{expected}, said was {now()}")

    def leave(self, code=0):
        self.screen.type("\x04")
        self.assertEqual(self.screen.code(), code)

    # ---- keys

    def test_moving_and_deleting(self):
        s = self.open()
        s.type("one two  three")
        s.is_(["> one two  three"], (0, 16))
        s.type("\x01zero \x05!")                       # Ctrl-A, Ctrl-E
        s.is_(["> zero one two  three!"], (0, 22))
        s.type("\x1bb\x1bb\x17")                       # two words back, Ctrl-W
        s.is_(["> zero two  three!"], (0, 7))
        s.type("\x19")                                 # Ctrl-Y
        s.is_(["> zero one two  three!"], (0, 11))
        s.type("\x0b\x7f")                             # Ctrl-K, Backspace
        s.is_(["> zero one"], (0, 10))
        s.type("\x1bb\x1bd\x14\x08")                   # Alt-B, Alt-D, Ctrl-T, Ctrl-H
        s.is_(["> zer"], (0, 6))
        s.type("\x01\x04\x1b[3~\x1b[1;5C?\x1bOD\x1b[H>")   # Ctrl-D, Delete, Ctrl-Right, Left, Home
        s.is_(["> >r?"], (0, 3))
        s.type("\x15\x15")                             # Ctrl-U, and once more with nothing to do
        s.is_(["> r?"], (0, 2))
        s.type("\x05\x0c")                             # Ctrl-L
        s.is_(["> r?"], (0, 5))
        self.assertEqual(s.cursor()[0], 0)
        s.type("\r")
        self.said("r? ")
        self.leave()

    def test_characters_of_any_width(self):
        s = self.open()
        family, flag, accent = "\U0001f469\u200d\U0001f467", "\U0001f1e9\U0001f1ea", "e\u0301"
        s.type(f"日本{accent}x")
        s.is_(["> 日本\u00e9x"], (0, 8))                 # pyte composes
        s.type(LEFT + LEFT + "\x7f")                   # over x, over e with its accent, one letter back
        s.is_(["> 日\u00e9x"], (0, 4))
        s.type("\x1b[3~")                              # Delete takes the letter with its accent
        s.is_(["> 日x"], (0, 4))
        s.type(f"{family}{flag}\x7f\x7f")
        s.is_(["> 日x"], (0, 4))
        s.type(b"\xff\xc3\x28\xe2\x82")                # bytes that are no characters are left out
        s.is_(["> 日(x"], (0, 5))
        s.type("\r")
        self.said("日(x")
        self.leave()

    def test_rows_that_are_exactly_full(self):
        s = self.open()
        s.type("a" * 38)
        s.is_(["> " + "a" * 38, ""], (0, 0))
        s.type("b")
        s.is_(["> " + "a" * 38, "b"], (0, 1))
        s.type("\x7f" + ALT_ENTER + "c")
        s.is_(["> " + "a" * 38, "", ". c"], (0, 3))
        s.type(UP + "x")
        s.is_(["> ax" + "a" * 36, "a", ". c"], (2, 4))
        s.type("\r")
        self.said("ax" + "a" * 37 + "\nc")
        s.shows(r"> axa{36}\na\n\. c\ngot 41 bytes\n>")
        self.leave()

    def test_tab_completes_words_and_is_a_tab_elsewhere(self):
        s = self.open()
        s.type("/sy\t")
        s.is_(["> /system"], (0, 10))
        s.type("x\ty\r")
        self.said("/system x\ty")
        s.type("/s\t\t")                               # several begin so
        s.is_(["> /s"], (0, 4))
        s.type("\x15a\tb\r")
        self.said("/system x\ty", "a\tb")
        self.leave()

    # ---- several lines

    def test_ways_to_several_lines(self):
        s = self.open()
        s.type("one" + ALT_ENTER + "two\x1b[13;2uthree\x1b[27;2;13~four")   # Alt-, Shift-Enter of two kinds
        s.is_(["> one", ". two", ". three", ". four"], (0, 6))
        s.type("\r")
        s.type("one\\\rtwo\\\r\r")
        s.type('"""\rone\r\rtwo\r"""\r')
        s.type('"""a"""\r"quoted" \\ not\r')
        self.said("one\ntwo\nthree\nfour", "one\ntwo\n", "\none\n\ntwo\n", "a", '"quoted" \\ not')
        self.leave()

    def test_pasting_is_one_message(self):
        """Line ends and tabs of what is pasted are text; control characters do nothing."""
        s = self.open()
        code = "def f():\n\treturn 1\n\nWhat is this?"
        path = pathlib.Path(DATA) / "faults" / "paste-tabs-newlines.txt"
        if path.exists():
            code = path.read_text()
        s.type(pasted(code))
        s.is_(["> def f():", ".       return 1", ".", ". What is this?"], (0, 15))
        self.assertFalse(self.out.read_text())
        s.type("\r")
        self.said(code)
        s.shows(r"bytes\n>$")                          # before that Ctrl-C would be one
        s.type("\x1b[200~a\r\nb\x03\x04\x1b[A\x1b[201\x7f\u0085c\r\x1b[201~")
        s.type("!\r")
        self.said(code, "a\nb[A[201c\n!")
        s.type(pasted(b"caf\xe9 au lait"))
        s.type("\x01X\r")
        self.said(code, "a\nb[A[201c\n!", "Xcaf\ufffd au lait")
        self.leave()

    def test_pasting_much(self):
        s = self.open()
        text = "\n".join(f"line {i}" for i in range(3000))
        s.type("before ")
        s.type(pasted(text))
        s.is_([". line 2998", ". line 2999"], (0, 11))
        self.assertEqual(len(s.lines()), 12)
        s.type(UP * 20)
        s.is_([f". line {i}" for i in range(2979, 2991)], (11, 11))
        s.type("\r")
        self.said("before " + text)
        s.shows(r"\. line 2999\ngot \d+ bytes\n>")
        rows = s.scrolled() + s.lines()                # all of it can be read again above
        at = rows.index("> before line 0")
        self.assertEqual(rows[at + 1:at + 3000], [f". line {i}" for i in range(1, 3000)])
        self.leave()

    def test_pasting_too_much(self):
        s = self.open()
        s.type("kept ")
        block = b"\x1b[200~" + b"0123456789abcde\r" * (1 << 16) + b"x\x1b[201~"
        while block:
            s.type(block[:4000])
            block = block[4000:]
            s.take(0)
        s.shows("at most 1 MiB")
        s.type("this\r")
        self.said("kept this")
        self.leave()

    def test_tall_messages_show_the_cursor(self):
        s = self.open(40, 5)
        s.type(pasted("\n".join("abcdefgh")))
        s.is_([". d", ". e", ". f", ". g", ". h"], (0, 3))
        s.type(UP * 7)
        s.is_(["> a", ". b", ". c", ". d", ". e"], (4, 3))
        s.type(DOWN * 6 + "!" + "\x7f" * 4)
        s.is_([". b", ". c", ". d", ". e", "."], (0, 2))
        s.type("\r")
        self.said("a\nb\nc\nd\ne\n\nh")
        self.leave()

    # ---- history

    def test_history_of_whole_messages(self):
        s = self.open()
        s.type("first\r")
        s.type(pasted("a\\\nb\\\\"))
        s.type("\x01\r")                               # ends with a backslash: goes on
        s.type("\x7f.\r")
        s.type("first\r")
        s.type("first\r")
        self.said("first", "a\\\nb\\.", "first", "first")
        s.type("mine" + UP)
        s.is_(["> first"], (0, 7))
        s.type(UP)
        s.is_(["> a\\", ". b\\."], (0, 5))
        s.type(UP + UP)
        s.is_(["> first"], (0, 7))
        s.type("\x0e\x0e\x0e")                         # Ctrl-N
        s.is_(["> mine"], (0, 6))
        s.type("\x15")
        self.leave()
        path = self.dir / "state" / "stretto" / "history"
        self.assertEqual(path.read_text(), "first\na\\\\\\\nb\\.\nfirst\n")
        self.assertEqual(path.stat().st_mode & 0o077, 0)
        s = self.open()                                # the next one knows it
        s.type(UP + UP + "\r")
        self.said("a\\\nb\\.")
        self.leave()

    def test_searching_history(self):
        s = self.open()
        s.type("apple pie\rbanana bread\rapple cake\r")
        self.said("apple pie", "banana bread", "apple cake")
        s.type("\x12app")
        s.is_(["search [app]: apple cake"], (0, 14))
        s.type("\x12")
        s.is_(["search [app]: apple pie"], (0, 14))
        s.type("\x7f\x7f\x7fban")
        s.is_(["search [ban]: banana bread"], (0, 14))
        s.type("\x07")                                 # Ctrl-G
        s.is_([">"], (0, 2))
        s.type("\x12pie\r")
        self.said("apple pie", "banana bread", "apple cake", "apple pie")
        self.leave()

    def test_history_that_is_no_use(self):
        state = self.dir / "state" / "stretto"
        state.mkdir(parents=True)
        (state / "history").write_bytes(b"\xff\xfe broken \x1b[31m\n" + b"x\ny\n" * 3000 + b"last\nno end")
        s = self.open()
        s.type(UP)
        s.is_(["> last"], (0, 6))
        s.type("\r")
        self.said("last")
        self.leave()
        self.assertLess(len((state / "history").read_bytes().splitlines()), 1100)
        (state / "history").write_bytes(b"bad \xff \x1b[31m\n")
        s = self.open()
        s.type(UP)
        s.is_(["> bad \ufffd ^[[31m"], (0, 14))
        self.env["XDG_STATE_HOME"] = "/proc/none"
        s.type("\x03")
        self.leave()
        self.open()
        self.leave()

    # ---- interrupting, stopping, ending

    def test_ctrl_c_and_ctrl_d(self):
        s = self.open()
        s.type("dropped" + ALT_ENTER + "too\x1b[A")
        s.is_(["> dropped", ". too"], (1, 5))
        s.type("\x03")
        s.is_(["> dropped", ". too^C", ">"], (0, 2))
        s.type("wait\r")
        s.shows("waiting")
        s.type("typed ahead\x03")
        s.shows(r"\(stopped\)\n>")
        s.type("hi\r")
        self.said(None, "wait", "hi")
        os.kill(s.pid, signal.SIGINT)                  # from elsewhere
        self.said(None, "wait", "hi", None)
        s.type("wait\r")
        s.shows("hi\n(?s:.*)waiting")
        s.type("not shown, kept\r")                    # typed while an answer is written
        s.take(0.3)
        self.assertNotIn("not shown", "\n".join(s.lines()))
        os.kill(s.pid, signal.SIGINT)
        self.said(None, "wait", "hi", None, "wait", "not shown, kept")
        self.leave()

    def test_terminal_is_given_back(self):
        """After the end, and after a signal, the shell's line works and nothing is bracketed."""
        for sig in (None, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, "typed"):
            with self.subTest(sig):
                s = self.open()
                s.type("half a line")
                s.shows("half a line")
                if sig == "typed":
                    s.type("\x1c")
                elif sig:
                    os.kill(s.pid, sig)
                else:
                    s.type("\x15\x04")
                code = s.code()
                self.assertEqual(code, -signal.SIGQUIT if sig == "typed" else -sig if sig else 0)
                self.assertEqual(s.raw.count(b"\x1b[?2004h"), 1)
                self.assertTrue(s.raw.rstrip().endswith(b"\x1b[?2004l"), s.raw[-40:])

    def test_ctrl_z_and_fg(self):
        """The shell finds its terminal as it was; after fg the message is there again, and goes on."""
        # dash, where sh is that, leaves the terminal as it finds it, so what is wrong with it stays to be seen.
        self.env.update(PS1="$ ", HISTFILE="", ENV="")
        self.screen = s = Screen(["/bin/sh", "-i"], self.env, 60, 20)
        s.shows(r"\$")
        s.type(f"stty -a | md5sum; cd {self.dir}; {PROGRAM} said\r")
        s.is_([">"], (0, 2))
        s.type("one" + ALT_ENTER + "two" + UP)
        s.is_(["> one", ". two"], (1, 5))
        s.type("\x1a")
        s.shows(r"> one\n\. two\n(?s:.*)Stopped(?s:.*)\n\$$")
        s.type("stty -a | md5sum\r")
        s.shows(r"md5sum(?s:.*)\n[0-9a-f]{32}(?s:.*)md5sum\n[0-9a-f]{32}  -\n\$$")
        sums = [row[:32] for row in s.lines() if row.endswith("  -")]
        self.assertEqual(sums[0], sums[1])
        s.type("fg\r")
        s.is_(["> one", ". two"], (1, 5))
        s.type(LEFT)                                   # every key counts again
        s.is_(["> one", ". two"], (1, 4))
        s.type(RIGHT + "X\r")
        self.said("oneX\ntwo")
        # And while something else is going on than typing.
        s.type("wait\r")
        s.shows("waiting")
        s.type("\x1a")
        s.shows(r"waiting\n(?s:.*)Stopped(?s:.*)\n\$$")
        s.type("echo shown; fg\r")
        s.shows(r"echo shown; fg\nshown\n")
        s.take(0.3)
        s.type("\x03")
        s.shows(r"\(stopped\)\n>$")
        s.type("\x04")
        s.shows(r"\n> ?\$$")
        s.type("exit\r")
        s.code()

    def test_resizing_a_terminal_that_cuts(self):
        """xterm cuts lines and pads them; what stands above the message is not touched."""
        self.env["XTERM_VERSION"] = "XTerm(379)"
        s = self.open(60, 12)
        s.type("above\r")
        s.shows("got 5 bytes\n>")
        s.type("word " * 20)
        s.is_(["> " + "word " * 11 + "wor", "d" + " word" * 8], (0, 42))
        s.resize(30, 12)
        s.shows(r"> above\ngot 5 bytes\n> (word ){5}wor\nd( word){5}")
        s.type("!")
        s.shows(r"word !$")
        s.type("\r")
        self.said("above", "word " * 20 + "!")
        self.leave()

    # ---- what is no such terminal

    def test_dumb_terminal(self):
        self.env["TERM"] = "dumb"
        s = self.open()
        s.type("one\\\ntwo\n")
        s.type('"""a\nb"""\n')
        s.type("wait\n")
        s.shows("waiting")
        s.type("\x03")
        s.shows(r"\(stopped\)\n>")
        s.type("dropped")
        s.shows("dropped")
        s.type("\x03")
        self.said("one\ntwo", "a\nb", "wait", None)
        self.leave()
        self.assertNotIn(b"\x1b", s.raw)

    def test_colours(self):
        s = self.open()
        self.assertIn(b"\x1b[1m", s.raw)
        self.leave()
        self.env["NO_COLOR"] = "1"
        s = self.open()
        self.assertNotRegex(s.raw, rb"\x1b\[[0-9;]*m")
        self.leave()

    def test_pipe(self):
        """A line is a message: nothing goes on, nothing is drawn."""
        done = subprocess.run([PROGRAM, self.out], input=b'one\\\r\n"""two\n\nlast \xe9', capture_output=True,
                              env=self.env, timeout=60, check=True)
        self.assertNotIn(b"\x1b", done.stdout)
        self.assertNotIn(b">", done.stdout)
        said = self.out.read_text().splitlines()
        self.assertEqual(said[:3], ['"one\\\\"', '"\\"\\"\\"two"', '""'])
        self.assertEqual(said[-1], "null")
        self.assertEqual(len(said), 5)


if __name__ == "__main__":
    PROGRAM, DATA = os.path.abspath(sys.argv.pop(1)), sys.argv.pop(1)
    unittest.main(verbosity=2 if "-v" in sys.argv else 1)
