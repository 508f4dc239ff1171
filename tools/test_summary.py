#!/usr/bin/env python3
"""Closing lines of ./dev test: what ran in each build, what was skipped and why, what failed.

usage: test_summary.py FOLDER...   (each holds CTest's results.xml)
Exit code 1 when a test failed or a build left no results.
"""
import pathlib
import sys
import xml.etree.ElementTree as ET


def reason(case):
    """The line "skip: why" that a skipped test prints."""
    for line in (case.findtext("system-out") or "").splitlines():
        if line.strip().startswith("skip:"):
            return line.strip()[5:].strip()
    return "no reason given"


def main():
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
