#!/usr/bin/env python3
"""stretto bench --decode: every way writes the same text, the figures hang together, answers of a trace warm the
store, and what it cannot do it says.

    test_bench_decode.py STRETTO GOLDEN_FOLDER"""
import json
import os
import random
import subprocess
import sys
import tempfile

stretto, golden = sys.argv[1:3]
if not os.path.isdir(golden):
    print(f"skip: there is no {golden}")
    sys.exit(77)
model = os.path.join(golden, "llama", "model.gguf")


def call(*args):
    r = subprocess.run([stretto, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return r.returncode, r.stdout, r.stderr


def main():
    rng = random.Random(3)
    with tempfile.TemporaryDirectory() as tmp:
        prompts, traced = os.path.join(tmp, "p.jsonl"), os.path.join(tmp, "t.jsonl")
        with open(prompts, "w") as f:
            for i in range(4):
                ids = [rng.randrange(3, 290) for _ in range(rng.randrange(1, 40))]
                f.write(json.dumps({"id": f"p{i}", "set": "ab"[i % 2], "ids": ids}) + "\n")
            f.write(json.dumps({"id": "long", "set": "a", "ids": list(range(3, 253))}) + "\n")
        base = ("bench", "-m", model, "--prompts", prompts, "-n", "50", "-t", "1")
        code, out, err = call(*base, "--decode", "all", "--pairs", "3", "-o", "json")
        assert code == 0 and "long has 250 tokens" in err, err
        got = json.loads(out)
        assert [p["skipped"] for p in got["prompts"]] == 4 * [False] + [True]
        assert len(got["step_seconds"]) == 49 and min(got["step_seconds"]) > 0
        for p in got["prompts"][:4]:
            assert {"plain", "auto", "jacobi", "lookup"} <= set(p["ways"])
            for way, w in p["ways"].items():
                assert w["same"] and len(w["ratios"]) == 3 and w["low"] <= w["ratio"] * 1.0001
                # Tokens of an answer: the first comes with the prompt, the others from steps.
                assert w["tokens"] == p["answer_tokens"] - 1, (way, w, p["answer_tokens"])
                assert w["steps"] <= w["tokens"] and w["accepted"] <= w["guesses"]
                assert w["tokens"] == w["steps"] + w["accepted"] or way != "plain"
            plain = p["ways"]["plain"]
            assert plain["ratios"] == 3 * [1.0] and plain["guesses"] == 0 and plain["cost"] == 1.0
        code, out, err = call(*base, "--decode", "auto,jacobi+lookup", "--limit", "2", "--pairs", "1")
        assert code == 0 and out.count("| plain |") == 2 - out.count("not counted"), out
        assert call("trace", "jacobi", "-m", model, "--prompts", prompts, "-o", traced, "-n", "50",
                    "--states", "1")[0] == 0
        code, out, err = call(*base, "--decode", "suffix", "--warm", traced, "--pairs", "1", "-o", "json")
        assert code == 0, err
        got = json.loads(out)
        assert got["warm_answers"] == 4
        # All answers are in the store; their last tokens are followed by nothing, and not found.
        assert all(p["known"] >= 1 - 1.01 / p["answer_tokens"] or p["answer_tokens"] < 9
                   for p in got["prompts"][:4])
        for args, status, sentence in (
                (("bench", "-m", model, "--decode", "auto"), 2, "--prompts"),
                ((*base, "--decode", "auto,magic"), 2, "magic"),
                ((*base, "--decode", "suffix", "--warm", prompts), 1, "--warm"),
                ((*base, "--decode", "auto", "-n", "250"), 2, "no prompt fits")):
            code, _, err = call(*args)
            assert code == status and sentence in err, (args, err)
    print("ways of decoding measured")


if __name__ == "__main__":
    main()
