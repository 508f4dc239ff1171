#!/usr/bin/env python3
"""The help on a terminal: no line is wider than it, the words are those of the piped text, colours are
there when a terminal has them and NO_COLOR and TERM=dumb are honoured. Through a pipe nothing is wrapped or
coloured, whatever the terminal variables say.

usage: test_help.py STRETTO STRETTO-PULL
"""
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios

STRETTO, PULL = sys.argv[1:3]
ESCAPE = re.compile(r"\x1b\[[0-9;]*m")


def on_terminal(argv, width, **env):
    main, other = pty.openpty()
    fcntl.ioctl(other, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    base = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "COLUMNS", "TERM")}
    child = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=other, stderr=subprocess.DEVNULL,
                             env=base | {"TERM": "xterm"} | env)
    # What the program wrote is read before the terminal goes: the mark comes behind all of it.
    seen, mark, marked = b"", b"\0end\0", False
    while not seen.endswith(mark):
        if select.select([main], [], [], 0.02)[0]:
            seen += os.read(main, 65536)
        elif child.poll() is not None and not marked:
            marked = os.write(other, mark) > 0
    os.close(other)
    os.close(main)
    assert child.returncode == 0, argv
    return seen[:-len(mark)].decode().replace("\r\n", "\n")


def piped(argv, **env):
    return subprocess.run(argv, env=os.environ | {"TERM": "xterm"} | env, check=True, capture_output=True,
                          text=True).stdout


def words(text):
    """The words; a long word that was cut at the edge of a narrow screen is one again."""
    return re.sub(r"(?<=[|,/])\n\s*", "", text).replace("\n", " ").split()


def main():
    commands = [c["name"] for c in json.loads(piped([STRETTO, "help", "--json"]))["commands"]]
    shown = [[STRETTO, "help"]] + [[STRETTO, name, "--help"] for name in commands]
    shown += [[PULL, "--help"]] if os.path.exists(PULL) else []
    long = 0
    widths = (40, 61, 80, 120, 200)
    for at, argv in enumerate(shown):
        plain = piped(argv, COLUMNS="40")
        assert "\x1b" not in plain, argv
        assert plain == piped(argv, COLUMNS="200"), argv    # a pipe has no edge
        long += max(map(len, plain.split("\n"))) > 80
        for width in widths:
            coloured = on_terminal(argv, width)
            text = ESCAPE.sub("", coloured)
            wide = [line for line in text.split("\n") if len(line) > width]
            assert not wide, (argv, width, wide)
            # Flags are cut behind their commas where a line ends, which words() cannot tell from a cut word.
            join = lambda s: "".join(words(s))
            assert join(text) == join(plain), (argv, width)
            assert not any(line.endswith(" ") for line in text.split("\n")), (argv, width)
            assert "\x1b[1m" in coloured, (argv, width)
            if width != widths[at % len(widths)]: continue      # what colours depend on knows no width
            assert on_terminal(argv, width, NO_COLOR="1") == text, (argv, width)
            assert on_terminal(argv, width, NO_COLOR="") == coloured, (argv, width)
            assert on_terminal(argv, width, TERM="dumb") == text, (argv, width)
    assert long > 5, "too few pages have lines that a narrow screen would have cut"
    for width in (40, 61, 80, 120):
        table = on_terminal([STRETTO, "models"], width, XDG_CACHE_HOME="/x", XDG_CONFIG_HOME="/x")
        assert max(map(len, table.split("\n"))) <= width, (width, table)
        assert all(name in table for name in ("smollm2-135m", "minilm-l6-v2")), table
        assert ("Apache-2.0" in table) == (width > 80) and ("SmolLM2" in table) == (width > 50), table
    # Something is coloured by its kind, not all alike.
    assert "\x1b[1m--threads\x1b[0m" in on_terminal([STRETTO, "run", "--help"], 80)
    assert "\x1b[35mN\x1b[0m" in on_terminal([STRETTO, "run", "--help"], 80)
    print(f"{len(shown)} pages of help fit terminals of 40 to 200 columns")
    return 0


if __name__ == "__main__":
    sys.exit(main())
