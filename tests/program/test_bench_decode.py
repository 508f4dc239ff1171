#!/usr/bin/env python3
"""stretto bench --decode: every way writes the same text, the figures hang together, a trace teaches guessing by
a file that run and bench read, another machine's prices are obeyed, and what it cannot do it says.

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
    r = subprocess.run([stretto, *args], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, text=True)
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
            assert {"plain", "auto", "jacobi", "lookup"} <= set(p["strategies"])
            for name, w in p["strategies"].items():
                assert w["same"] and len(w["ratios"]) == 3 and w["low"] <= w["ratio"] * 1.0001
                # Tokens of an answer: the first comes with the prompt, the others from steps.
                assert w["tokens"] == p["answer_tokens"] - 1, (name, w, p["answer_tokens"])
                assert w["steps"] <= w["tokens"] and w["accepted"] <= w["guesses"]
                assert w["tokens"] == w["steps"] + w["accepted"] or name != "plain"
            plain = p["strategies"]["plain"]
            assert plain["ratios"] == 3 * [1.0] and plain["guesses"] == 0 and plain["cost"] == 1.0
        code, out, err = call(*base, "--decode", "auto,jacobi+lookup", "--limit", "2", "--pairs", "1")
        assert code == 0 and out.count("| plain |") == 2 - out.count("not counted"), out
        learned, other = os.path.join(tmp, "l"), os.path.join(tmp, "o")
        assert call("trace", "jacobi", "-m", model, "--prompts", prompts, "-o", traced, "-n", "50",
                    "--states", "1", "--learned", learned)[0] == 0
        bytes_before = open(learned, "rb").read()
        code, out, err = call(*base, "--decode", "suffix,recycle", "--learned", learned, "--pairs", "1", "-o", "json")
        assert code == 0, err
        got = json.loads(out)
        assert got["learned_tokens"] == sum(p.get("answer_tokens", 0) + 1 for p in got["prompts"][:4]), got
        assert open(learned, "rb").read() == bytes_before, "bench only reads it"
        # All answers are in the store; their last tokens are followed by nothing, and not found.
        assert all(p["known"] >= 1 - 1.01 / p["answer_tokens"] or p["answer_tokens"] < 9
                   for p in got["prompts"][:4])
        # Recycling knows every row of these answers: its first guess is right wherever the text has not been
        # at this pair of tokens before, and without the file it begins with nothing.
        fresh = json.loads(call(*base, "--decode", "recycle", "--pairs", "1", "-o", "json")[1])
        steps = [sum(p["strategies"]["recycle"]["steps"] for p in g["prompts"][:4]) for g in (got, fresh)]
        assert steps[0] < 0.75 * steps[1], steps

        # run reads the file, adds its text and writes it; the text is the same with it and without.
        def run(*more):
            r = call("run", "-m", model, "-p", "one two three", "-n", "40", "--temp", "0", "-t", "1", "--json", *more)
            assert r[0] == 0, r
            return json.loads(r[1])
        plain = run("--decode", "plain")
        first, second = run("--learned", other), run("--learned", other)
        assert plain["ids"] == first["ids"] == second["ids"]
        assert second["decoding"]["steps"] <= first["decoding"]["steps"]
        assert os.stat(other).st_mode & 0o777 == 0o600
        size = os.path.getsize(other)
        assert size < os.path.getsize(learned) and run("--learned", learned)["ids"] == plain["ids"]
        assert os.path.getsize(learned) > len(bytes_before)
        assert sorted(os.listdir(tmp)) == ["l", "o", "p.jsonl", "t.jsonl"], "no part of a file is left"
        link, before = os.path.join(tmp, "link"), os.path.getsize(other)
        os.symlink(other, link)
        run("--learned", link)
        assert os.path.islink(link) and os.path.getsize(other) >= before
        os.mkfifo(os.path.join(tmp, "pipe"))

        # Prices of another machine: free rows are all used, rows that cost a step each are not.
        def sent(costs):
            r = call(*base, "--decode", "auto", "--pairs", "1", "--costs", costs, "--learned", learned, "-o", "json")
            assert r[0] == 0, r
            j = json.loads(r[1])
            assert j["costs_given"] and j["step_seconds"][0] == 1
            return sum(p["strategies"]["auto"]["guesses"] for p in j["prompts"][:4]), j["step_seconds"]
        cheap, dear = sent("1,1,1,1,1,1"), sent("1,2,4,8,16,32")
        assert cheap[0] > 2 * dear[0], (cheap[0], dear[0])
        assert all(abs(x - n - 1) < 1e-3 for n, x in enumerate(dear[1][:32]))

        broken = os.path.join(tmp, "broken")
        with open(broken, "wb") as f:
            f.write(bytes_before[:-20])
        foreign = os.path.join(tmp, "foreign")
        vocabulary = int.from_bytes(bytes_before[24:32], "little") ^ 1
        with open(foreign, "wb") as f:
            f.write(bytes_before[:24] + vocabulary.to_bytes(8, "little") + bytes_before[32:])
        short = ("run", "-m", model, "-p", "one", "-n", "4", "-t", "1", "--learned")
        for args, status, sentence in (
                ((*short, broken), 1, "damaged"),
                ((*short, foreign), 2, "another vocabulary"),
                ((*short, prompts), 1, "no file of what decoding learned"),
                ((*short, os.path.join(tmp, "no", "l")), 1, "cannot write"),
                ((*short, os.path.join(tmp, "pipe")), 2, "not a regular file"), ((*short, ""), 2, "name of a file"),
                (("trace", "jacobi", "-m", model, "--prompts", prompts, "-o", traced + "2", "-n", "50", "--learned",
                  os.path.join(tmp, "no", "l")), 1, "cannot write"),
                (("trace", "jacobi", "-m", model, "--prompts", prompts, "-o", "-"), 2, "name of a file"),
                (("trace", "jacobi", "-m", model, "--prompts", prompts, "-o", traced, "-n", "50", "--states", "1",
                  "--limit", "2"), 1, "raise --limit"),
                ((*base, "--decode", "all,auto"), 2, "stands alone"),
                ((*base, "--decode", "auto", "--learned", os.path.join(tmp, "none")), 1, "cannot open"),
                ((*base, "--decode", "auto", "--costs", "1,2,3"), 2, "--costs takes"),
                ((*base, "--decode", "auto", "--costs", "1,2,1,4,5,6"), 2, "--costs takes"),
                ((*base, "--decode", "auto", "--costs", "1,2,3,4,5,6,7"), 2, "--costs takes"),
                (("bench", "-m", model, "--decode", "auto"), 2, "--prompts"),
                ((*base, "--decode", "auto,magic"), 2, "magic"),
                ((*base, "--decode", "auto", "-n", "250"), 2, "no prompt fits")):
            code, _, err = call(*args)
            assert code == status and sentence in err, (args, err)
    print("decoding strategies measured")


if __name__ == "__main__":
    main()
