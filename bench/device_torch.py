#!/usr/bin/env python3
"""What PyTorch does with the same shapes: cuBLAS for the layers, its attention, a CUDA graph for a written token, so
that nothing waits for the launching of kernels. bench/device.py calls it; it prints one JSON value.

The rates are what the card can be seen to do at best: reading memory, multiplying bf16 and int8 matrices."""
import importlib.util
import json
import os
import sys
import time
from importlib.machinery import SourceFileLoader

try:
    import torch
    import torch.nn.functional as F
except ImportError:
    sys.exit("there is no PyTorch here")
if not torch.cuda.is_available():
    sys.exit("PyTorch sees no card")

HERE = os.path.dirname(os.path.abspath(__file__))
LOADER = SourceFileLoader("make_model", os.path.join(os.path.dirname(HERE), "tools", "make-model"))
MAKE = importlib.util.module_from_spec(importlib.util.spec_from_loader("make_model", LOADER))
LOADER.exec_module(MAKE)
ON = {"device": "cuda", "dtype": torch.bfloat16}


def best(work, times=10):
    """Seconds of the fastest of several."""
    work()
    torch.cuda.synchronize()
    least = float("inf")
    for _ in range(times):
        begin = time.perf_counter()
        work()
        torch.cuda.synchronize()
        least = min(least, time.perf_counter() - begin)
    return least


def rates():
    big = torch.zeros(2 << 30, dtype=torch.int8, device="cuda").view(torch.float32)
    read = big.numel() * 4 / best(big.sum) / 1e9
    a, b = torch.randn(8192, 8192, **ON), torch.randn(8192, 8192, **ON)
    bf16 = 2 * 8192 ** 3 / best(lambda: a @ b) / 1e12
    i, k = (torch.randint(-100, 100, (8192, 8192), dtype=torch.int8, device="cuda") for _ in range(2))
    try:
        int8 = 2 * 8192 ** 3 / best(lambda: torch._int_mm(i, k.t())) / 1e12    # pylint: disable=protected-access
    except RuntimeError:
        int8 = 0.0
    return {"read_gb_s": read, "bf16_tflops": bf16, "int8_tops": int8}


class Model:
    """Layers as one would write them by hand: fused projections, no module around them."""

    def __init__(self, s, context):
        q, kv = s["heads"] * s["head"], s["kv"] * s["head"]
        self.s, self.q, self.kv = s, q, kv

        def weight(rows, cols):
            return torch.randn(rows, cols, **ON) * cols ** -.5

        self.layers = [(weight(q + 2 * kv, s["width"]), weight(s["width"], q), weight(2 * s["feed"], s["width"]),
                        weight(s["width"], s["feed"])) for _ in range(s["layers"])]
        self.head = weight(s["vocab"], s["width"])
        self.norm = torch.ones(s["width"], **ON)
        self.cache = torch.zeros(s["layers"], 2, 1, s["kv"], context, s["head"], **ON)
        self.turn = torch.randn(context, s["head"] // 2, **ON)

    def rotate(self, x, at):
        """The work of rotary embedding, whatever the angles are."""
        a, b = x.chunk(2, -1)
        c = self.turn[at:at + x.shape[-2]]
        return torch.cat((a * c - b * c, a * c + b * c), -1)

    def rows(self, x, at, seen):
        s, n = self.s, x.shape[0]
        for i, (qkv, out, up, down) in enumerate(self.layers):
            h = F.rms_norm(x, (s["width"],), self.norm)
            q, k, v = (t.view(1, n, -1, s["head"]).transpose(1, 2)
                       for t in (h @ qkv.t()).split((self.q, self.kv, self.kv), -1))
            self.cache[i, 0, :, :, at:at + n] = self.rotate(k, at)
            self.cache[i, 1, :, :, at:at + n] = v
            a = F.scaled_dot_product_attention(self.rotate(q, at), self.cache[i, 0, :, :, :seen],
                                               self.cache[i, 1, :, :, :seen], is_causal=n > 1, enable_gqa=True)
            x = x + a.transpose(1, 2).reshape(n, -1) @ out.t()
            gate, value = (F.rms_norm(x, (s["width"],), self.norm) @ up.t()).chunk(2, -1)
            x = x + (F.silu(gate) * value) @ down.t()
        return (F.rms_norm(x[-1:], (s["width"],), self.norm) @ self.head.t()).argmax(-1)


def one_model(shape):
    s = dict(zip(MAKE.FIELDS, MAKE.SHAPES[shape]))
    m = Model(s, 4096)
    token, text = torch.randn(1, s["width"], **ON), torch.randn(4096, s["width"], **ON)
    with torch.inference_mode():
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            m.rows(token, 32, 33)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            m.rows(token, 32, 33)
        one = 1 / best(graph.replay, 50)
        prompt = 4096 / best(lambda: m.rows(text, 0, 4096), 3)
    return {"one": one, "prompt": prompt}


def main():
    result = {"version": torch.__version__, "card": torch.cuda.get_device_name(), **rates(), "models": {}}
    for shape in sys.argv[1:] or ("qwen2.5-1.5b", "llama-3-8b"):
        try:
            result["models"][shape] = one_model(shape)
        except (RuntimeError, TypeError, AttributeError) as e:      # an older PyTorch, or too little memory
            print(f"{shape}: {e}", file=sys.stderr)
        torch.cuda.empty_cache()
    print(json.dumps(result))


if __name__ == "__main__":
    main()
