#!/usr/bin/env python3
"""Holds every #include of src/ and programs/ to src/LAYERS.

usage: check_layers.py [ROOT]

- A room may include its own headers, include/stretto, and the rooms on the lines above its own.
- A room written as NAME>OTHER,... is open to those rooms alone (and to programs that name it).
- A header named <noun>_int.h, or in a folder of a room, belongs to its room alone.
- A program may include include/stretto and what its row in src/LAYERS names, no more.
- Every room and every program has a row.
Prints each breach as FILE:LINE: words; exit code 1 when there is one.
"""
import os
import pathlib
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"')


def read_layers(path):
    """Two maps from src/LAYERS: room -> rooms it may include, program -> rooms."""
    rooms, programs, above, only = {}, {}, set(), {}
    for line in path.read_text().splitlines():
        line = line.split("#")[0].strip()
        if line.startswith("programs/"):
            name, _, allowed = line.partition(":")
            programs[name.strip()] = set(allowed.split())
        elif line:
            names = [word.partition(">") for word in line.split()]
            only.update({name: set(open_to.split(",")) for name, _, open_to in names if open_to})
            for name, _, _ in names:
                rooms[name] = {room for room in above if name in only.get(room, {name})} | {name}
            above = above | {name for name, _, _ in names}
    return rooms, programs


def owner(path):
    """"src/kernels/x86/a.c" -> "kernels"; "programs/pull/b.c" -> "programs/pull"."""
    parts = path.parts
    if parts[0] == "include":
        return "include"
    return parts[1] if parts[0] == "src" else "/".join(parts[:2])


def resolve(root, file, name):
    """Where a quoted include of `file` leads, in the order the compiler looks."""
    folders = [file.parent, pathlib.Path("include"), pathlib.Path("src")]
    if file.parts[0] == "programs":
        folders.append(pathlib.Path("programs"))
    for folder in folders:
        if (root / folder / name).is_file():
            return pathlib.Path(os.path.normpath(folder / name))
    return None


def check(root):
    rooms, programs = read_layers(root / "src" / "LAYERS")
    breaches = []
    files = [p for top in ("src", "programs") for p in (root / top).rglob("*.[ch]")]
    for file in sorted(p.relative_to(root) for p in files):
        room = owner(file)
        allowed = rooms.get(room) if file.parts[0] == "src" else programs.get(room)
        if allowed is None:
            breaches.append(f"{file}:1: {room} has no row in src/LAYERS")
            continue
        for number, line in enumerate((root / file).read_text(encoding="utf-8").splitlines(), 1):
            found = INCLUDE.match(line)
            if not found:
                continue
            target = resolve(root, file, found.group(1))
            if target is None:
                breaches.append(f"{file}:{number}: there is no header {found.group(1)}")
                continue
            there, words = owner(target), f"{file}:{number}: {found.group(1)}"
            if there in ("include", room):
                continue
            if there not in allowed:
                breaches.append(f"{words}: {room} may not look into {there}")
            elif target.stem.endswith("_int") or target.parts[0] == "src" and len(target.parts) > 3:
                breaches.append(f"{words} is for the room {there} alone")
    return breaches


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    breaches = check(root)
    print("\n".join(breaches) or "every include agrees with src/LAYERS")
    return 1 if breaches else 0


if __name__ == "__main__":
    sys.exit(main())
