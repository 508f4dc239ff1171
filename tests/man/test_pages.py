#!/usr/bin/env python3
"""Man pages say every option of every command and every symbol of the library, and docs/decoding.md every way of
decoding: the oracle is the rows of the command (stretto help --json) and tests/api/symbols.txt.

usage: test_pages.py STRETTO FOLDER_OF_PAGES
"""
import json
import pathlib
import re
import subprocess
import sys

PAGES = pathlib.Path(sys.argv[2])
ROOT = pathlib.Path(__file__).resolve().parents[2]
wrong = []


def shown(name):
    """The words of a page without roff's requests, fonts and escapes, on one line."""
    path = PAGES / name
    if not path.exists():
        wrong.append(f"there is no {name}")
        return ""
    text = re.sub(r"\\f[A-Z]", "", path.read_text()).replace("\\&", "").replace("\\-", "-").replace("\\e", "\\")
    return " ".join(text.split())


def expect(page, words):
    if " ".join(words.split()) not in page:
        wrong.append(f"{page[:60]}...: nothing of '{words}'")


def strategies(commands):
    """The words of --decode; the table of docs/decoding.md has a row for each, with what it is from."""
    option, = {json.dumps(o) for c in commands for g in c["groups"] for o in g["options"] if o["kind"] == "strategies"}
    words = re.search(r": ((?:\w+, )+\w+), or several", json.loads(option)["help"]).group(1).split(", ")
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \|$", (ROOT / "docs/decoding.md").read_text(), re.M)
    if sorted(rows) != sorted(words):
        wrong.append(f"docs/decoding.md has rows for {rows}, and --decode takes {words}")


def main():
    commands = json.loads(subprocess.run([sys.argv[1], "help", "--json"], check=True, text=True,
                                         capture_output=True).stdout)["commands"]
    pages = {c["name"]: shown(f"stretto-{c['name']}.1") for c in commands}
    first, library = shown("stretto.1"), shown("stretto.3")
    for c in commands:
        expect(first, c["summary"][1:])
        for option in (o for g in c["groups"] for o in g["options"]):
            expect(pages[c["name"]], option["flags"].replace(" ", ", "))
            expect(pages[c["name"]], option["help"][1:])
    symbols = (ROOT / "tests/api/symbols.txt").read_text().split()
    for symbol in symbols:
        expect(library, symbol)
    strategies(commands)
    print("\n".join(wrong) or f"{len(commands)} commands and {len(symbols)} symbols have their pages")
    return 1 if wrong or not commands or not symbols else 0


if __name__ == "__main__":
    sys.exit(main())
