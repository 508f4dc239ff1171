#!/usr/bin/env python3
"""What is installed works from outside: the example of the manual is built through pkg-config (shared
and static) and through the CMake package in a fresh prefix, and runs on a real model when one is there.

usage: test_package.py ROOT BUILD CC MODELS
"""
import os
import pathlib
import shlex
import subprocess
import sys
import tempfile

MODEL = "SmolLM2-135M-Instruct.Q4_1.gguf"
CMAKE = """cmake_minimum_required(VERSION 3.22)
project(outside C)
find_package(stretto 0.1 REQUIRED)
add_executable(with_shared example.c)
target_link_libraries(with_shared PRIVATE stretto::stretto)
add_executable(with_static example.c)
target_link_libraries(with_static PRIVATE stretto::static)
"""


def run(*command, **more):
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, **more)
    if done.returncode:
        sys.exit(f"{shlex.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def main():
    root, build, cc, models = (pathlib.Path(a) for a in sys.argv[1:5])
    with tempfile.TemporaryDirectory() as folder:
        prefix = pathlib.Path(folder, "prefix")
        run("cmake", "--install", build, "--prefix", prefix)
        example = pathlib.Path(folder, "outside", "example.c")
        example.parent.mkdir()
        example.write_bytes((root / "tests/api/example.c").read_bytes())

        config = next(prefix.glob("lib*/**/stretto.pc")).parent
        env = {**os.environ, "PKG_CONFIG_PATH": str(config), "LD_LIBRARY_PATH": str(config.parent)}

        def flags(*more):
            return shlex.split(run("pkg-config", "--cflags", "--libs", *more, "stretto", env=env))

        programs = {"pkg-config, shared": example.with_name("shared"),
                    "pkg-config, static": example.with_name("static")}
        strict = [cc, "-std=c17", "-Wall", "-Wextra", "-Wpedantic", "-Werror", example, "-o"]
        run(*strict, programs["pkg-config, shared"], *flags())
        static = [f":lib{f[2:]}.a" if f == "-lstretto" else f for f in flags("--static")]
        static = [f"-l{f}" if f.startswith(":") else f for f in static]
        run(*strict, programs["pkg-config, static"], *static)

        example.with_name("CMakeLists.txt").write_text(CMAKE)
        run("cmake", "-S", example.parent, "-B", example.parent / "b", "-G", "Ninja",
            f"-DCMAKE_C_COMPILER={cc}", f"-DCMAKE_PREFIX_PATH={prefix}")
        run("cmake", "--build", example.parent / "b")
        programs["CMake, shared"] = example.parent / "b" / "with_shared"
        programs["CMake, static"] = example.parent / "b" / "with_static"

        for name in ("bin/stretto", "include/stretto/stretto.h", "lib/libstretto.so",
                     "share/bash-completion/completions/stretto", "share/zsh/site-functions/_stretto",
                     "share/fish/vendor_completions.d/stretto.fish"):
            if not (prefix / name).exists():
                sys.exit(f"{name} was not installed")
        run(prefix / "bin/stretto", "--version")
        if not (models / MODEL).exists():
            print(f"skip: {MODEL} is missing, the example was built but not run")
            return 77
        answers = {}
        for what, program in programs.items():
            answers[what] = run(program, models / MODEL, "The capital of France is", env=env)
        print(*answers.items(), sep="\n")
        if len(set(answers.values())) != 1 or "Paris" not in answers["CMake, static"]:
            sys.exit("the answers differ, or none names Paris")
    return 0


if __name__ == "__main__":
    sys.exit(main())
