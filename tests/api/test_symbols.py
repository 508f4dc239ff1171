#!/usr/bin/env python3
"""Both libraries show exactly the names of symbols.txt, and the header declares each of them; nothing
in the library can end the process or print.

usage: test_symbols.py ROOT LIBSTRETTO.SO LIBSTRETTO.A

To add a public function: declare it with STRETTO_API and add its name to symbols.txt. A name that was
released is never taken away within one SONAME.
"""
import pathlib
import re
import subprocess
import sys

# Standard output and error belong to the program, its life to its owner.
FORBIDDEN = {"exit", "_exit", "_Exit", "quick_exit", "abort", "printf", "vprintf", "puts", "putchar",
             "perror", "stdout", "stderr", "__assert_fail"}
# libc and libm aside, only these permissive libraries.
NEEDED = {"libjansson", "libpcre2-8", "libutf8proc", "libm", "libc", "libpthread"}


def names(*args):
    text = subprocess.run(["nm", "-P", *args], check=True, capture_output=True, text=True).stdout
    lines = [line.split() for line in text.splitlines() if not line.endswith(":")]
    return {f[0].split("@")[0]: f[1] for f in lines if len(f) > 1}


def main():
    root, shared, static = pathlib.Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    wanted = set((root / "tests/api/symbols.txt").read_text().split())
    header = "".join((root / "include/stretto" / h).read_text() for h in ("stretto.h", "compress.h", "train.h"))
    header = re.sub(r"/\*.*?\*/", "", header, flags=re.S)
    declared = set(re.findall(r"^STRETTO_API\b[^;]*?\b(stretto_\w+)\s*\(", header, flags=re.M))
    wrong = []
    for what, found in (("declared in the headers", declared),
                        ("shared library", set(names("-D", "--defined-only", shared))),
                        ("static library", set(names("-g", "--defined-only", static)))):
        wrong += [f"{what}: {n} is not in symbols.txt" for n in sorted(found - wanted)]
        wrong += [f"{what}: {n} is missing" for n in sorted(wanted - found)]
    used = set(names("-D", "--undefined-only", shared))
    wrong += [f"the library uses {n}" for n in sorted(FORBIDDEN & used)]
    dynamic = subprocess.run(["readelf", "-d", "-W", shared], check=True, capture_output=True,
                             text=True).stdout
    for library in re.findall(r"\(NEEDED\).*\[(.*?)\.so", dynamic):
        if library not in NEEDED and not library.startswith("ld-linux"):
            wrong.append(f"the shared library needs {library}")
    if not re.search(r"\(SONAME\).*\[libstretto\.so\.0\.\d+\]", dynamic):
        wrong.append("the SONAME is not libstretto.so.0.<minor>")
    print("\n".join(wrong) or f"{len(wanted)} public symbols, no others")
    return 1 if wrong or not wanted else 0


if __name__ == "__main__":
    sys.exit(main())
