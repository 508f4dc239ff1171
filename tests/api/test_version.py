#!/usr/bin/env python3
"""One version everywhere: CMake project, header, command, pkg-config file, man pages, change log.

usage: test_version.py ROOT BUILD
"""
import pathlib
import re
import subprocess
import sys


def main():
    root, build = map(pathlib.Path, sys.argv[1:3])
    header = (root / "include/stretto/stretto.h").read_text()

    def find(pattern, path):
        found = re.search(pattern, path.read_text(), flags=re.M)
        return found.group(1) if found else None

    versions = {
        "CMakeLists.txt": find(r"^project\(stretto VERSION (\S+)", root / "CMakeLists.txt"),
        "STRETTO_VERSION": find(r'define STRETTO_VERSION "(.*)"', root / "include/stretto/stretto.h"),
        "its three numbers": ".".join(re.search(rf"STRETTO_VERSION_{part} (\d+)", header).group(1)
                                      for part in ("MAJOR", "MINOR", "PATCH")),
        "stretto.pc": find(r"^Version: (.*)", build / "stretto.pc"),
        "CHANGELOG.md": find(r"^## (\d\S+)", root / "CHANGELOG.md"),
    }
    if (build / "stretto").exists():
        text = subprocess.run([build / "stretto", "--version"], check=True, capture_output=True,
                              text=True).stdout
        versions["stretto --version"] = text.split()[1]
    for page in sorted((root / "man").glob("*.[13]")):
        versions[page.name] = find(r'^\.TH .*"stretto ([\d.]+)"', page)
    for where, version in versions.items():
        print(f"{version}  {where}")
    return 0 if len(set(versions.values())) == 1 else 1


if __name__ == "__main__":
    sys.exit(main())
