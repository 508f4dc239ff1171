#!/usr/bin/env python3
"""Holds the tree to the mechanical part of the style: what a reviewer should not have to look for.

usage: test_style.py ROOT
Code: 100 columns (refused beyond 120), no tabs, no blanks at line ends, nothing left open, a newline at
the end. Text: no path of somebody's machine, no host of a package registry. All: under 1 MiB.
"""
import pathlib
import re
import subprocess
import sys

CODE = {".c", ".h", ".py", ".cmake", ".sh", ".txt"}
CODE_NAMES = {"dev", "run", "CMakeLists.txt"}
DATA = ("data/calibration/code.txt", "data/calibration/prose.txt", "data/heldout/", "data/tasks/", "tests/data/",
        "tests/fuzz/corpus/", "tests/fuzz/dict/", "bench/history/")
COLUMNS = 100        # what we write in; said, and refused from LIMIT on
LIMIT = 120
BYTES = 1 << 20
# The words are cut in two so that this file does not find itself.
OPEN_END = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X|HA" + r"CK)\b")
MACHINE = re.compile(r"(?<![\w.])/(wo" + r"rk|fa" + r"rm|ro" + r"ot|tmp/w|home/[a-z]\w*)(/|\b)")
REGISTRY = re.compile(r"(py" + r"pi\.org|pythonho" + r"sted\.org|deb" + r"ian\.org/debian|" +
                      r"deb\.deb" + r"ian\.org|registry\.np" + r"mjs|huggingface\.co/a" + r"pi)")
# JSON that others wrote has one door, base/json.h, and trees are made by base/json_tree.h.
OTHER_JSON = re.compile(r"\bjson_load(b|s|f|fd|_file|_callback)\s*\(")
NAMED = re.compile(r"`((?:src|include|programs|tests|tools|docs|bench|cmake)/[\w./-]*\w)`")


def faults(name, raw):
    """What is wrong with one file: (line, words)."""
    if len(raw) >= BYTES:
        yield 1, f"{len(raw)} bytes; committed files stay under 1 MiB"
    if b"\0" in raw or name.startswith(DATA):
        return
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        yield 1, "neither UTF-8 nor a data file"
        return
    path = pathlib.PurePosixPath(name)
    code = path.suffix in CODE or path.name in CODE_NAMES
    for number, line in enumerate(text.split("\n"), 1):
        if MACHINE.search(line):
            yield number, "names a path of one machine"
        if REGISTRY.search(line):
            yield number, "names the host of a package registry"
        if line != line.rstrip() and path.suffix != ".md":
            yield number, "blanks at the end of the line"
        if name.startswith(("src/", "programs/")) and OTHER_JSON.search(line):
            yield number, "reads JSON with another reader than base/json.h and base/json_tree.h"
        if code and "\t" in line:
            yield number, "a tab"
        if code and len(line) > LIMIT:
            yield number, f"{len(line)} columns; {COLUMNS} is the most"
        if code and OPEN_END.search(line):
            yield number, "something left open"
    if code and text and not text.endswith("\n"):
        yield number, "no newline at the end"


def self_test():
    """The test must be able to fail: each fault planted once."""
    planted = {"a" * 121 + "\n": 1, "a\tb\n": 1, "a \n": 1, "/* TO" + "DO */\n": 1, "end": 1,
               '"/wo' + 'rk/x"\n': 1, "py" + "pi.org\n": 1, "clean\n": 0,
               "json_load" + "b(p, n);\n": 1,
               '"/tmp/stretto-XXXXXX"\n': 0}
    for text, count in planted.items():
        found = list(faults("src/a.c", text.encode()))
        if len(found) != count:
            sys.exit(f"the test itself is wrong: {text!r} gave {found}")
    if not list(faults("x.bin", bytes(BYTES))):
        sys.exit("the test itself is wrong: a large file passed")
    if not list(lost(pathlib.Path("."), "see `src/nowhere.c`")):
        sys.exit("the test itself is wrong: a page may name a lost file")


def lost(root, text):
    """Paths that a page of documentation names and that are not there."""
    for number, line in enumerate(text.split("\n"), 1):
        for path in NAMED.findall(line):
            if not (root / path).exists():
                yield number, f"names {path}, which does not exist"


def files(root):
    listed = subprocess.run(["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"],
                            capture_output=True, check=False)
    if listed.returncode == 0:
        return sorted(set(filter(None, listed.stdout.decode().split("\0"))))
    return sorted(str(p.relative_to(root)) for p in pathlib.Path(root).rglob("*")
                  if p.is_file() and p.relative_to(root).parts[0] not in ("build", ".git"))


def main():
    root = pathlib.Path(sys.argv[1])
    self_test()
    wrong, seen = 0, 0
    for name in files(root):
        path = root / name
        if path.is_symlink() or not path.is_file():
            continue
        seen += 1
        found = list(faults(name, path.read_bytes()))
        if path.suffix == ".md":
            found += lost(root, path.read_text())
        for number, words in found:
            print(f"{name}:{number}: {words}")
        wrong += len(found)
    print(f"{seen} files, {wrong} faults")
    return 1 if wrong or not seen else 0


if __name__ == "__main__":
    sys.exit(main())
