"""The rows of src/tensor/dtype_rows.h, the one list of element types: what tools and tests make models of."""
import os
import re

ROWS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "src", "tensor", "dtype_rows.h")


def read(path=ROWS):
    """{name: {field: word or number}} in the order of the rows."""
    with open(path, encoding="ascii") as f:
        text = f.read().replace("\\\n", " ")
    types = {}
    for name, fields in re.findall(r"\bX\((\w+), (\.block[^()]*)\)", text):
        types[name] = {k: int(v) if v.isdecimal() else v.strip()
                       for k, v in re.findall(r"\.(\w+) = ([^,]+)", fields)}
    if len(types) != len(re.findall(r"\bX\(\w+, \.\w", text)):
        raise ValueError(f"{path} has rows that do not begin with .block or have parentheses in them")
    return types


TYPES = read()
CODED = {name: row for name, row in TYPES.items() if row["block"] > 1}


def halves(row):
    """Where the float16 numbers of a block are: its scale, and its minimum if there is one."""
    return [] if "scale" in row else [row["d_at"]] + ([row["m_at"]] if "m_at" in row else [])


def centre(row):
    """The minimum, in units of the scale, that centres the codes; sub-scales and sub-minimums alike."""
    bits = sum({"CODE_BYTES": 8, "CODE_NIB": 4, "CODE_TWO": 2, "CODE_ONE": 1}[p.strip()]
               for p in row["planes"].split("|"))
    return (2 ** bits - 1) / 2 * (-1 if row.get("min") == "MIN_PLUS" else 1)
