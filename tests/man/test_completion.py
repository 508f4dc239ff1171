#!/usr/bin/env python3
"""Bash, given the completion file, offers every command, every option and every choice that the rows
of the command have.

usage: test_completion.py STRETTO STRETTO.BASH
"""
import json
import shutil
import subprocess
import sys

ASK = """source "$1"; shift
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _stretto; printf '%s\\n' "${COMPREPLY[@]}" """


def offers(script, *words):
    done = subprocess.run(["bash", "-c", ASK, "bash", script, *words], check=True, text=True,
                          capture_output=True)
    if done.stderr:
        sys.exit(f"{words}: {done.stderr}")
    return set(done.stdout.split())


def main():
    program, script = sys.argv[1:3]
    if not shutil.which("bash"):
        print("skip: no bash")
        return 77
    rows = json.loads(subprocess.run([program, "help", "--json"], check=True, text=True,
                                     capture_output=True).stdout)["commands"]
    names = {row["name"] for row in rows}
    wrong = []

    def expect(words, wanted):
        found = offers(script, "stretto", *words)
        if found != wanted:
            wrong.append(f"stretto {' '.join(words)}: {sorted(found ^ wanted)}")

    expect([""], names | {"help", "--version"})
    expect(["help", ""], names)
    expect(["inf"], {"info"})
    for row in rows:
        options = [o for group in row["groups"] for o in group["options"]]
        flags = {flag for o in options for flag in o["flags"].split()} | {"--help"}
        expect([row["name"], "-"], flags)
        for o in options:
            if o["kind"] == "choice":
                expect([row["name"], o["flags"].split()[0], ""], set(o["value"].split("|")))
    print("\n".join(wrong) or f"{len(rows)} commands complete")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
