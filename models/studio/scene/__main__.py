"""Command line: `python -m scene --layouts 0:100 --out DIR`."""

from argparse import ArgumentParser, ArgumentTypeError
from pathlib import Path

from .classes import CLASSES
from .render import run


def seeds(text):
    """Seeds from "3,7,10:20": numbers, and ranges without their last."""
    out = []
    try:
        for item in text.split(","):
            first, colon, last = item.partition(":")
            out += range(int(first), int(last)) if colon else [int(first)]
    except ValueError:
        raise ArgumentTypeError(f"'{text}' is no list of seeds such as 0:100 or 3,7,10:20") from None
    return out


def looks(text):
    """Seeds, or None and how many other layouts' looks for "own" and "own+N"."""
    if text == "own":
        return None, 0
    if text.startswith("own+"):
        return None, count(text[4:])
    return seeds(text), 0


def size(text):
    """Width and height from "256" or "640x480"."""
    width, _, height = text.partition("x")
    try:
        width, height = int(width), int(height or width)
    except ValueError:
        width = height = 0
    # Blender draws nothing smaller.
    if min(width, height) < 4:
        raise ArgumentTypeError(f"'{text}' is no size such as 256 or 640x480 (at least 4 pixels each way)")
    return width, height


def part(text):
    """The numbers of "k/n"."""
    number, _, parts = text.partition("/")
    if not (number.isdecimal() and parts.isdecimal() and int(number) < int(parts)):
        raise ArgumentTypeError(f"'{text}' is no part such as 0/2 or 1/2")
    return int(number), int(parts)


def count(text):
    """A whole number above 0."""
    if not text.isdecimal() or int(text) == 0:
        raise ArgumentTypeError(f"'{text}' is no number above 0")
    return int(text)


def classes(text):
    """Classes' indices from their names, such as "cloth,plant"."""
    names = [name for name, _ in CLASSES]
    try:
        return [names.index(name) for name in text.split(",")]
    except ValueError:
        raise ArgumentTypeError(f"'{text}' is no list of {', '.join(names)}") from None


def main():
    """Reads the arguments and renders."""
    parser = ArgumentParser(
        prog="python -m scene",
        description="Path-traced product pictures with exact label maps. Seeds from 900000 up are kept for "
        "evaluation: train on none of them.",
    )
    parser.add_argument(
        "--layouts", required=True, type=seeds, metavar="SEEDS", help="such as 0:100 or 3,7,10:20"
    )
    parser.add_argument(
        "--looks",
        default="own",
        type=looks,
        help="own (each layout in the look of its own seed), own+N (also in the looks of N others of the "
        "layouts) or seeds; default own",
    )
    parser.add_argument(
        "--size", default="256", type=size, help="WIDTHxHEIGHT or one number for both; default 256"
    )
    parser.add_argument("--spp", default=32, type=count, help="most samples a pixel; default 32")
    parser.add_argument(
        "--out", required=True, type=Path, help="folder for images/, labels/, classes.json, meta.csv"
    )
    parser.add_argument("--threads", default=1, type=count, help="of Cycles; default 1")
    parser.add_argument(
        "--stride",
        default="0/1",
        type=part,
        metavar="K/N",
        help="every N-th layout from the K-th: for N processes",
    )
    parser.add_argument(
        "--having",
        default=(),
        type=classes,
        metavar="CLASSES",
        help="only layouts that show one of these, such as cloth,plant",
    )
    parser.add_argument("--until", default="", metavar="HH:MM", help="UTC; begin no layout after it")
    a = parser.parse_args()
    run(a.layouts, *a.looks, a.size, a.spp, a.out, a.threads, a.stride, a.until, a.having)


if __name__ == "__main__":
    main()
