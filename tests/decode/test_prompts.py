#!/usr/bin/env python3
"""Every decoding strategy on prompts of the shared data writes plain decoding's tokens, greedy and with a seed.

    test_prompts.py DECODE_EXACT MODEL DATA SET TAKE TOKENS      TAKE 0: every prompt there is"""
import os
import pathlib
import subprocess
import sys
import tempfile

exact, model, data, name, take, tokens = sys.argv[1:7]
script = pathlib.Path(__file__).resolve().parents[2] / "bench" / "make_prompts.py"
for needed in (model, data):
    if not os.path.exists(needed):
        print(f"skip: there is no {needed}")
        sys.exit(77)
with tempfile.TemporaryDirectory() as tmp:
    prompts = os.path.join(tmp, "prompts.jsonl")
    subprocess.run([sys.executable, str(script), name, "--data", data, "--all", "-o", prompts], check=True)
    limit = ["--take", take] if int(take) else []
    code = subprocess.run([os.path.abspath(exact), "--prompts", prompts, "--tokens", tokens, *limit, model],
                          cwd=tmp).returncode
sys.exit(code)
