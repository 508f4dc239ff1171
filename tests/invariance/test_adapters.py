"""Adapters for sequences and rows: test_adapters.py CHECK API MODEL...

Makes four adapters of random numbers for all linear layers of each model, and files of the first one that act on some
rows alone (stretto.adapter.rows); what is compared is said in adapters.c, and in api/adapters.c."""
import os
import subprocess
import sys
import tempfile
import gguf
import numpy as np

check, api, *models = sys.argv[1:]


def write(path, arch, tensors, rank, rows=None):
    w = gguf.GGUFWriter(path, arch)
    w.add_type("adapter")
    w.add_string("adapter.type", "lora")
    w.add_float32("adapter.lora.alpha", 2 * rank)
    if rows:
        w.add_string("stretto.adapter.rows", rows)
    for name, (a, b) in tensors.items():
        w.add_tensor(name + ".lora_a", a)
        w.add_tensor(name + ".lora_b", b)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def adapters(model, folder):
    reader = gguf.GGUFReader(model)
    arch = reader.fields["general.architecture"].contents()
    layers = {t.name: (int(t.shape[1]), int(t.shape[0])) for t in reader.tensors
              if t.name.startswith("blk.") and len(t.shape) == 2}
    for k in range(4):
        draw, rank = np.random.default_rng(k), (4, 8, 3, 16)[k]
        some = {n: s for i, (n, s) in enumerate(layers.items()) if k != 2 or i % 2}
        t = {n: (draw.normal(0, n_in ** -0.5, (rank, n_in)).astype("f4"),
                 draw.normal(0, 0.2 * rank ** -0.5, (n_out, rank)).astype("f4")) for n, (n_out, n_in) in some.items()}
        write(os.path.join(folder, f"{k}.gguf"), arch, t, rank)
        for rows in ("given", "answers", "guesses") if k == 0 else ():
            write(os.path.join(folder, f"0.{rows}.gguf"), arch, t, rank, rows)


for model in models:
    if not os.path.isfile(model):
        print(f"skip: there is no {model}")
        sys.exit(77)
    with tempfile.TemporaryDirectory() as folder:
        adapters(model, folder)
        subprocess.run([check, model, folder], check=True)
        subprocess.run([api, model, os.path.join(folder, "0.gguf"), os.path.join(folder, "1.gguf")], check=True)
