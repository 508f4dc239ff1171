"""The C program ask (ask.c) as a Python object."""
import subprocess

import numpy as np


class Refused(Exception):
    """Our program says no; the words are its own."""


class Died(Exception):
    """Our program ended instead of answering."""


class Asker:
    def __init__(self, program):
        self.program, self.child = program, None

    def ask(self, line, data=b""):
        """What follows "ok", and the stream to read the rest from."""
        if self.child is None:
            self.child = subprocess.Popen([self.program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self.child.stdin.write(line.encode() + b"\n" + data)
            self.child.stdin.flush()
        except BrokenPipeError:
            pass
        head = self.child.stdout.readline()
        if not head.endswith(b"\n"):
            code, self.child = self.child.wait(), None
            raise Died(f"the program ended with {code} when asked: {line[:200]}")
        word, _, rest = head.decode(errors="replace").rstrip("\n").partition(" ")
        if word != "ok":
            raise Refused(rest.partition(" ")[2])
        return rest

    def numbers(self, n, dtype):
        data = self.child.stdout.read(n * np.dtype(dtype).itemsize)
        return np.frombuffer(data, dtype)

    def logits(self, path, ids):
        rows, width = map(int, self.ask(f"logits {path} {','.join(map(str, ids))}").split())
        return self.numbers(rows * width, np.float32).reshape(rows, width).astype(np.float64)

    def encode(self, path, text, special=True, add=True):
        data = text.encode()
        return self.numbers(int(self.ask(f"encode {special + 2 * add} {len(data)} {path}", data)), np.int32).tolist()

    def decode(self, path, ids):
        n = int(self.ask(f"decode {len(ids)} {path}", np.array(ids, np.int32).tobytes()))
        return self.numbers(n, np.uint8).tobytes()

    def ends(self, path):
        return self.numbers(int(self.ask(f"ends {path}")), np.int32).tolist()

    def convert(self, folder):
        """The path of the GGUF file made of the folder."""
        self.ask(f"convert {folder}")
        return folder + ".gguf"

    def close(self):
        if self.child:
            self.child.stdin.close()
            self.child.wait()
