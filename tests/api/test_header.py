#!/usr/bin/env python3
"""stretto.h, compress.h and train.h alone compile without a warning as C17 and as C++, and twice in one file.

usage: test_header.py ROOT CC
"""
import shutil
import subprocess
import sys

WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror", "-fsyntax-only"]
TEXT = ("".join(f'#include "stretto/{h}.h"\n' for h in ("compress", "stretto", "train", "compress", "train"))
        + "int x = STRETTO_E_FULL;\n")


def compiles(*command, text=TEXT):
    result = subprocess.run([*command, *WARNINGS, "-"], input=text, text=True, capture_output=True,
                            check=False)
    return result.returncode == 0, result.stderr


def main():
    include = ["-I", sys.argv[1] + "/include"]
    as_c = [sys.argv[2], "-std=c17", "-Wstrict-prototypes", *include, "-x", "c"]
    good, words = compiles(*as_c)
    if not good:
        print("as C17:", words)
        return 1
    if compiles(*as_c, text=TEXT + "int f(a) int a; { return a; }\n")[0]:
        print("the test itself is wrong: old C passes without a warning")
        return 1
    cxx = next(filter(None, map(shutil.which, ("g++", "clang++", "clang++-14"))), None)
    if not cxx:
        print("skip: no C++ compiler (./dev test installs it); as C17 the header is fine")
        return 77
    for standard in ("c++11", "c++17"):
        good, words = compiles(cxx, "-std=" + standard, *include, "-x", "c++")
        if not good:
            print(f"as {standard}:", words)
            return 1
    print("stretto.h compiles as C17, C++11 and C++17")
    return 0


if __name__ == "__main__":
    sys.exit(main())
