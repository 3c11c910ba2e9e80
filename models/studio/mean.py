"""Means of models, weight by weight: python mean.py OUT A B [C ...] [--part PREFIX] [--from MODEL] [--card card.json]

OUT is the mean of A, B and the others, each as often as it is named. With --part only of tensors whose names begin so (labeler.); the
rest is A's, or with --from MODEL that model's. What card.json has takes the place of what the header says. Needs numpy;
`ca2sis models check OUT` says whether the result is a model.
"""

import argparse
import json
import pathlib
import struct

import numpy as np

TYPES = {"F16": np.float16, "F32": np.float32}


def read(path):
    """The header of a safetensors file, and its bytes behind that."""
    data = pathlib.Path(path).read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def values(model, name):
    header, data = model
    first, last = header[name]["data_offsets"]
    return np.frombuffer(data[first:last], TYPES[header[name]["dtype"]]).astype(np.float64)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--part", default="", help="tensors whose names begin so")
    parser.add_argument("--from", dest="base", help="the model that the rest is of")
    parser.add_argument("--card", help="JSON with what the header is to say")
    options = parser.parse_args()

    models = [read(path) for path in options.models]
    header, data = read(options.base or options.models[0])
    result = bytearray(data)
    for name, about in header.items():
        if name == "__metadata__" or not name.startswith(options.part):
            continue
        for path, (other, _) in zip(options.models, models):
            if name not in other or other[name]["shape"] != about["shape"]:
                raise SystemExit(f"{path}: `{name}` is missing or has another shape than {about['shape']}")
        first, last = about["data_offsets"]
        mean = np.mean([values(model, name) for model in models], axis=0)
        result[first:last] = mean.astype(TYPES[about["dtype"]]).tobytes()

    if options.card:
        card = json.loads(header["__metadata__"]["ca2sis"])
        card.update(json.loads(pathlib.Path(options.card).read_text()))
        header["__metadata__"]["ca2sis"] = json.dumps(card, separators=(",", ":"))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(options.out).write_bytes(struct.pack("<Q", len(text)) + text + result)


if __name__ == "__main__":
    main()
