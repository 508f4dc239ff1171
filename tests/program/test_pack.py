#!/usr/bin/env python3
"""Packed models: PyPI's reader of GGUF sees a file without tensors of its own architecture; a packed model answers as
the file it was made of, and as often as it is asked; unpack gives the same file back.

usage: test_pack.py STRETTO MODELS"""
import filecmp
import os
import subprocess
import sys
import tempfile

try:
    from gguf import GGUFReader
except ImportError as e:
    print(f"skip: {e.name} is not installed (./dev test installs it)")
    sys.exit(77)


def main():
    stretto, models = sys.argv[1:3]
    model = os.path.join(models, "SmolLM2-135M-Instruct.Q4_1.gguf")
    if not os.path.exists(model):
        print(f"skip: {model} is not there")
        return 77

    def out(*args, code=0):
        p = subprocess.run([stretto, *args], input="", capture_output=True, text=True)
        assert p.returncode == code, (args, p.returncode, p.stderr)
        return p.stdout if code == 0 else p.stderr

    with tempfile.TemporaryDirectory() as tmp:
        packed, again = os.path.join(tmp, "packed.gguf"), os.path.join(tmp, "again.gguf")
        assert "% less" in out("pack", model, packed)
        assert os.path.getsize(packed) < 0.97 * os.path.getsize(model)
        reader = GGUFReader(packed)
        assert len(reader.tensors) == 0
        assert reader.fields["general.architecture"].contents() == "stretto-packed"
        assert reader.fields["stretto.pack.architecture"].contents() == "llama"
        out("unpack", packed, again)
        assert filecmp.cmp(model, again, shallow=False)
        for threads in "1", "2", "2":
            asked = ["-p", "The moon is", "-n", "16", "--temp", "0", "-t", threads]
            assert out("run", "-m", packed, *asked) == out("run", "-m", model, *asked)
        assert "is there already" in out("pack", model, packed, code=2)
        assert "packed already" in out("pack", packed, again, "--force", code=2)
        assert "not a packed model" in out("unpack", model, again, "--force", code=2)
        with open(packed, "r+b") as f:
            at = f.read(1024).index(b"stretto.pack.version") + len("stretto.pack.version") + 4
            f.seek(at)
            f.write(bytes([9]))
            f.flush()
            assert "version 9" in out("run", "-m", packed, "-p", "x", "-n", "1", code=1)
            f.seek(at)
            f.write(bytes([1]))
            f.flush()
            f.truncate(os.path.getsize(packed) - 1)
        assert "not whole" in out("run", "-m", packed, "-p", "x", "-n", "1", code=1)
    print("packed models answer as what they were made of")
    return 0


if __name__ == "__main__":
    sys.exit(main())
