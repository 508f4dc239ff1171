#!/usr/bin/env python3
"""src/LAYERS holds, and tools/check_layers.py catches what it should: each kind of breach is
planted in a small tree and must be found.

usage: test_layers.py ROOT
"""
import pathlib
import sys
import tempfile

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(sys.argv[1]) / "tools"))
import check_layers  # noqa: E402

TREE = {
    "src/LAYERS": "low\nleft right>high\nhigh\ntop\nprograms/tool: low\n",
    "include/stretto/stretto.h": "",
    "src/low/low.h": '#include "stretto/stretto.h"\n',
    "src/low/low_int.h": "",
    "src/left/left.h": '#include "low/low.h"\n',
    "src/right/right.h": "",
    "src/high/high.c": '#include "left/left.h"\n#include "right/right.h"\n#include <low/any.h>\n',
    "src/high/part/part.h": "",
    "src/high/high.h": '#include "high/part/part.h"\n',
    "src/top/top.c": '#include "high/high.h"\n#include "left/left.h"\n',
    "programs/tool/main.c": '#include "low/low.h"\n#include "stretto/stretto.h"\n',
}
PLANTED = {
    "a room looks down": ("src/low/bad.c", '#include "high/high.h"\n', {"src/high/high.h": ""}),
    "a room looks at its neighbour": ("src/left/bad.c", '  #  include "right/right.h"\n', {}),
    "another room's inner header": ("src/high/bad.c", '#include "low/low_int.h"\n', {}),
    "a room that is open to others only": ("src/top/bad.c", '#include "right/right.h"\n', {}),
    "a header of a folder in another room": ("src/top/bad.c", '#include "high/part/part.h"\n', {}),
    "a room without a row": ("src/new/bad.c", "", {}),
    "a program looks too deep": ("programs/tool/bad.c", '#include "left/left.h"\n', {}),
    "a header that is not there": ("src/low/bad.c", '#include "low/none.h"\n', {}),
    "a way around by a relative path": ("src/low/bad.c", '#include "../high/high.h"\n',
                                        {"src/high/high.h": ""}),
}


def write(root, tree):
    for name, text in tree.items():
        path = pathlib.Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main():
    wrong = check_layers.check(pathlib.Path(sys.argv[1]))
    with tempfile.TemporaryDirectory() as clean:
        write(clean, TREE)
        wrong += ["a clean tree is refused: " + b for b in check_layers.check(pathlib.Path(clean))]
    for words, (name, text, more) in PLANTED.items():
        with tempfile.TemporaryDirectory() as root:
            write(root, {**TREE, name: text, **more})
            found = check_layers.check(pathlib.Path(root))
            if len(found) != 1 or not found[0].startswith(name):
                wrong.append(f"planted: {words}; found: {found}")
    print("\n".join(wrong) or "every include agrees with src/LAYERS; planted breaches are found")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
