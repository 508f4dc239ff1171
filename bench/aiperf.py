"""aiperf (PyPI), a load client that we did not write: the second witness of bench/serve.py (--aiperf).

It sends the texts that bench/serve.py's own client sends, takes the time itself, and believes the servers' usage about
how many tokens were written. It insists on a tokenizer, which counts for nothing then: it gets one that splits words.
"""
import json
import os
import subprocess
import sys
import tempfile

PACKAGE = "aiperf==0.13.0"
HOME = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "build", "peers", "aiperf")
PYTHON, PROGRAM = (os.path.join(HOME, "bin", name) for name in ("python", "aiperf"))


def fetch():
    """Into an environment of its own, when it is not there."""
    if os.path.isfile(PROGRAM):
        return
    print(f"serve: fetching {PACKAGE} into {HOME}", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", HOME], check=True)
    subprocess.run([PYTHON, "-m", "pip", "-q", "--disable-pip-version-check", "install",
                    PACKAGE], check=True, stdin=subprocess.DEVNULL)


def words(cache):
    """A tokenizer where Hugging Face's hub would have put it, since nothing is to be fetched."""
    repository = os.path.join(cache, "hub", "models--local--words")
    there = os.path.join(repository, "snapshots", "0")
    os.makedirs(there)
    os.makedirs(os.path.join(repository, "refs"))
    model = {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}
    for path, text in ((os.path.join(repository, "refs", "main"), "0"),
                       (os.path.join(there, "tokenizer_config.json"),
                        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "?"})),
                       (os.path.join(there, "tokenizer.json"),
                        json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
                                    "normalizer": None, "pre_tokenizer": {"type": "Whitespace"},
                                    "post_processor": None, "decoder": None, "model": model}))):
        with open(path, "w") as f:
            f.write(text)


def measure(port, clients, prompts, written, temperature):
    """[tokens per second, seconds to the first token (95 %)] of these texts, each continued by so many tokens."""
    with tempfile.TemporaryDirectory(prefix="stretto-aiperf-") as folder:
        words(os.path.join(folder, "cache"))
        texts = os.path.join(folder, "prompts.jsonl")
        with open(texts, "w") as f:
            f.writelines(json.dumps({"text": text}) + "\n" for text in prompts)
        argv = [PYTHON, PROGRAM, "profile", "--model", "m", "--url", f"http://127.0.0.1:{port}", "--endpoint-type",
                "completions", "--streaming", "--concurrency", clients, "--request-count", len(prompts), "--input-file",
                texts, "--custom-dataset-type", "single_turn", "--dataset-sampling-strategy", "sequential",
                "--extra-inputs", f"max_tokens:{written}", "--extra-inputs", "ignore_eos:true", "--extra-inputs",
                f"temperature:{temperature:g}", "--use-server-token-count", "--tokenizer", "local/words",
                "--artifact-dir", folder, "--ui", "none", "--no-gpu-telemetry", "--no-server-metrics"]
        log = os.path.join(folder, "said")
        with open(log, "wb") as out:
            env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": os.path.join(folder, "cache")}
            done = subprocess.run([str(a) for a in argv], stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd=folder,
                                  env=env)
        told = os.path.join(folder, "profile_export_aiperf.json")
        if done.returncode or not os.path.isfile(told):
            with open(log, errors="replace") as f:
                raise RuntimeError(f"aiperf ended with {done.returncode}: {f.read()[-600:]}")
        with open(told) as f:
            got = json.load(f)
    failed = got.get("error_request_count", {}).get("avg", 0)
    each = got["output_sequence_length"]
    if failed or got["request_count"]["avg"] != len(prompts) or (each["min"], each["max"]) != (written, written):
        raise RuntimeError(f"aiperf: {got['request_count']['avg']:g} of {len(prompts)} requests were answered, "
                           f"{failed:g} failed, with {each['min']:g} to {each['max']:g} tokens instead of {written}")
    return [got["output_token_throughput"]["avg"], got["time_to_first_token"]["p95"] / 1e3]
