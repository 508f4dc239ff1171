#!/usr/bin/env python3
"""No run of CTest passes in silence over tests that compared with nothing: a small project with CTest's own files,
the environment and the closing step of ours, run by ctest itself.

usage: test_skips.py SOURCE_FOLDER
"""
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(sys.argv[1]).resolve()
PASSES = "echo fine"
MODEL = "echo 'skip: there is no model'; exit 77"
PART = "echo 'skip: the data set is not there'; echo the rest is fine"
ORACLE = "echo 'skip: the package numpy is not installed (./dev test installs it)'; exit 77"
wrong = []


def ctest(tests, **extra):
    """Exit code and output of ctest over {name: shell words}."""
    with tempfile.TemporaryDirectory() as tmp:
        lines = [f'include("{ROOT}/tests/environment.cmake")']
        for name, words in tests.items():
            lines += [f'add_test({name} sh -c [==[{words}]==])', f"set_tests_properties({name} PROPERTIES "
                      "SKIP_RETURN_CODE 77)"]
        pathlib.Path(tmp, "CTestTestfile.cmake").write_text("\n".join(lines) + "\n")
        pathlib.Path(tmp, "CTestCustom.cmake").write_text(
            f'set(CTEST_CUSTOM_POST_TEST "python3 {ROOT}/tools/test_summary.py --skips {tmp}")\n')
        env = {k: v for k, v in os.environ.items() if k != "STRETTO_ALLOW_SKIP" and not k.startswith("CTEST_")}
        done = subprocess.run(["ctest", "-V"] if extra.pop("loud", None) else ["ctest"], cwd=tmp, env=env | extra,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr


def expect(what, got, fails, *parts):
    code, text = got
    if bool(code) != fails or any(part not in text for part in parts):
        wrong.append(f"{what}: exit code {code}, expected {', '.join(parts)}:\n{text}")


def main():
    expect("all pass", ctest({"a": PASSES}), False, "100% tests passed")
    if "skipped" in ctest({"a": PASSES})[1]:
        wrong.append("something is said to be skipped where nothing was")
    expect("a model is missing", ctest({"a": PASSES, "b": MODEL}), False, "1 test was skipped",
           "b: there is no model")
    expect("a part is missing", ctest({"a": PART, "b": MODEL}), False, "2 tests were skipped",
           "a: the data set is not there")
    three = {"a": PASSES, "b": MODEL, "c": ORACLE}
    expect("an oracle is missing", ctest(three), True, "2 tests were skipped", "c: the package numpy",
           "1 of them lacks something that ./dev test installs", "STRETTO_ALLOW_SKIP=1")
    expect("and that is allowed", ctest(three, STRETTO_ALLOW_SKIP="1"), False, "2 tests were skipped")
    expect("a test fails", ctest({"a": "exit 1"}), True)
    if (ROOT / "build/venv/bin/python3").exists():
        expect("the Python environment is found",
               ctest({"a": "python3 -c 'import sys; print(sys.prefix)'"}, loud=True, PATH=os.defpath), False,
               str((ROOT / "build/venv").absolute()))
    print("\n".join(wrong) or "what is skipped is said, and fails the run where ./dev test would have installed it")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
