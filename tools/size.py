#!/usr/bin/env python3
"""Lines of code per room: informational, it asks "is this two rooms?".

usage: size.py [ROOT]
"""
import pathlib
import re
import sys

COMMENT = re.compile(r"/\*.*?\*/", re.S)


def main():
    root = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parents[1])
    rooms = {}
    for top in ("include", "src", "programs", "tests", "bench", "tools"):
        for path in (root / top).rglob("*"):
            if path.suffix in (".c", ".h", ".py") and "__pycache__" not in path.parts:
                parts = path.relative_to(root).parts
                room = parts[0] if len(parts) == 2 or parts[0] == "include" else "/".join(parts[:2])
                rooms.setdefault(room, []).append(path)
    print(f"{'room':20} {'files':>6} {'lines':>7} {'words share':>12}  longest file")
    total = 0
    for room in sorted(rooms):
        lines = {p: p.read_text(errors="replace").count("\n") for p in rooms[room]}
        text = "".join(p.read_text(errors="replace") for p in rooms[room] if p.suffix != ".py")
        words = sum(c.group().count("\n") + 1 for c in COMMENT.finditer(text))
        share = f"{100 * words // max(text.count(chr(10)), 1)} %" if text else ""
        longest = max(lines, key=lines.get)
        total += sum(lines.values())
        print(f"{room:20} {len(lines):6} {sum(lines.values()):7} {share:>12}  "
              f"{longest.name} {lines[longest]}")
    print(f"{'all':20} {sum(map(len, rooms.values())):6} {total:7}")


if __name__ == "__main__":
    main()
