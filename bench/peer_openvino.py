#!/usr/bin/env python3
"""OpenVINO GenAI as a peer: loads the same GGUF, writes a fixed number of tokens, prints one line of JSON.

    build/peers/venv/bin/python bench/peer_openvino.py -m MODEL.gguf -t 2 -p 512 -n 128 [-np 1] [-ctk f16]
                                                       [--attention PA]

pp is the prompts over the time to the first token, tg the tokens of all -np sequences over the time after it,
both from the library's own measurements of the second of two runs of the same size; `-p 16 -n 1 --cold` leaves
out the run before it and is what a process needs from its start to its first token. End-of-sequence tokens are
ignored, greedy."""
import argparse
import json
import sys
import time


def main():
    began = time.monotonic()
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("-m", "--model", required=True)
    ap.add_argument("-t", "--threads", type=int, default=0)
    ap.add_argument("-p", "--n-prompt", type=int, default=512)
    ap.add_argument("-n", "--n-gen", type=int, default=128)
    ap.add_argument("-np", "--parallel", type=int, default=1)
    ap.add_argument("-ctk", default="f16")
    ap.add_argument("--attention", choices=("PA", "SDPA"), default="PA")
    ap.add_argument("--cold", action="store_true")
    args = ap.parse_args()
    try:
        import numpy as np
        import openvino
        import openvino_genai as genai
    except ImportError as e:
        sys.exit(f"peer_openvino: {e}: run it with the Python that ./dev peers --get made (build/peers/venv)")
    settings = {"PERFORMANCE_HINT": "LATENCY", "ATTENTION_BACKEND": args.attention,
                "KV_CACHE_PRECISION": {"q8_0": "u8"}.get(args.ctk, args.ctk)}
    if args.threads:
        settings["INFERENCE_NUM_THREADS"] = args.threads
    pipe = genai.LLMPipeline(args.model, "CPU", **settings)
    load = time.monotonic() - began

    def generate(seed, n_gen):
        ids = np.random.default_rng(seed).integers(100, 10000, (args.parallel, args.n_prompt)).astype(np.int64)
        tokens = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        config = genai.GenerationConfig()
        config.do_sample = False
        config.ignore_eos = True
        config.max_new_tokens = config.min_new_tokens = n_gen
        return pipe.generate(tokens, config).perf_metrics

    if not args.cold:
        # Other tokens than those of the test: it keeps the prefixes it has seen.
        generate(2, 2)
    took = generate(1, args.n_gen + (args.n_gen > 1))
    first, after = took.get_ttft().mean / 1e3, (took.get_generate_duration().mean - took.get_ttft().mean) / 1e3
    done = time.monotonic() - began
    print(json.dumps({"pp": args.parallel * args.n_prompt / first,
                      "tg": args.parallel * args.n_gen / after if args.n_gen > 1 else None,
                      "load_s": load, "seconds": done, "version": openvino.__version__}))


if __name__ == "__main__":
    main()
