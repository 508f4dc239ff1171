#!/usr/bin/env python3
"""Closing lines of a run of tests.

usage: test_summary.py FOLDER...        what ran in each build, what was skipped and why, what failed
       test_summary.py --skips FOLDER   what the run of CTest that ends now skipped, and why

./dev test prints the first at its end, from CTest's results.xml in each folder; exit code 1 when a test failed or a
build left no results. CTest itself runs the second after the last test (tests/CMakeLists.txt), so that no run says
"100% tests passed" of tests that compared with nothing: exit code 1 when a reason names "./dev test", which installs
what is missing, unless STRETTO_ALLOW_SKIP is set. Other reasons (a model or a CPU that is not here) are only told.
"""
import os
import pathlib
import re
import sys
import xml.etree.ElementTree as ET

INSTALLED = "./dev test"       # in a reason: that command installs what is missing


def log_of(folder):
    """CTest's log of the run: under its last name only when CTest is done."""
    for name in ("LastTest.log.tmp", "LastTest.log"):
        path = pathlib.Path(folder, "Testing", "Temporary", name)
        if path.exists():
            return path.read_text(errors="replace")
    return ""


def skipped_in(log):
    """(test, reason) for each line "skip: why" of a log; a test may have left out a part, and said so twice."""
    found = []
    each = r'^"([^"\n]+)" start time:.*?\nOutput:\n-+\n(.*?)^<end of output>'
    for name, output in re.findall(each, log, re.S | re.M):
        for why in re.findall(r"^\s*skip: *(.*?)\s*$", output, re.M):
            if (name, why) not in found:
                found.append((name, why))
    return found


def tell_skips(folder):
    found = skipped_in(log_of(folder))
    if not found:
        return 0
    tests = len({name for name, _ in found})
    print(f"\n{tests} test{'s were' if tests > 1 else ' was'} skipped, whole or in part:")
    for name, why in found:
        print(f"  {name}: {why}")
    missing = sorted({name for name, why in found if INSTALLED in why})
    if not missing or os.environ.get("STRETTO_ALLOW_SKIP"):
        return 0
    lack = "lacks" if len(missing) == 1 else "lack"
    print(f"\n{len(missing)} of them {lack} something that ./dev test installs: run it once, or set "
          "STRETTO_ALLOW_SKIP=1 to go without.", flush=True)
    return 1


def reason(case):
    """The line "skip: why" that a skipped test prints."""
    for line in (case.findtext("system-out") or "").splitlines():
        if line.strip().startswith("skip:"):
            return line.strip()[5:].strip()
    return "no reason given"


def main():
    if sys.argv[1:2] == ["--skips"]:
        return tell_skips(sys.argv[2])
    total = seconds = 0
    failed, skipped, slow = [], {}, []
    print("\nSummary")
    for folder in sys.argv[1:]:
        path = pathlib.Path(folder, "results.xml")
        if not path.exists():
            print(f"  {folder}: no results")
            failed.append(f"{folder}: no results")
            continue
        cases = ET.parse(path).getroot().findall("testcase")
        counts = {"run": 0, "fail": 0, "skip": 0}
        for case in cases:
            name, time = case.get("name"), float(case.get("time") or 0)
            slow.append((time, f"{folder}: {name}"))
            seconds += time
            if case.get("status") == "run":
                counts["run"] += 1
            elif case.find("skipped") is not None and case.get("status") == "notrun":
                counts["skip"] += 1
                skipped.setdefault((name, reason(case)), []).append(folder)
            else:
                counts["fail"] += 1
                failed.append(f"{folder}: {name}")
        total += len(cases)
        print("  {:8} {run} passed, {fail} failed, {skip} skipped".format(folder, **counts))
    print("  slowest:", ", ".join(f"{name} {time:.1f} s" for time, name in sorted(slow)[:-4:-1]))
    for name in failed:
        print("  failed:", name)
    share = 100 * (total - len(failed)) // max(total, 1)
    print(f"\n{share}% tests passed, {len(failed)} tests failed out of {total}")
    print(f"Total Test time (sum over tests) = {seconds:8.2f} sec")
    print(f"{sum(map(len, skipped.values()))} skipped" + (":" if skipped else ""))
    for (name, why), where in sorted(skipped.items()):
        print(f"  {name} ({', '.join(where)}): {why}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
