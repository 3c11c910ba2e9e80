"""A small check, `python -m scene.check`: the label map's classes, and that a scene comes out alike twice."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from .classes import CLASSES

# This layout has every class but cup and plant.
LAYOUT, PRESENT = 21, {0, 1, 2, 3, 4, 5, 7, 9}


def render(layouts, out):
    """Picture and label map of LAYOUT, rendered with `layouts` by a process of its own."""
    command = [
        sys.executable,
        "-m",
        "scene",
        "--layouts",
        layouts,
        "--size",
        "64",
        "--spp",
        "2",
        "--out",
        str(out),
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=Path(__file__).parents[1])
    name = f"{LAYOUT:06}_{LAYOUT:06}.png"
    return Image.open(out / "images" / name), Image.open(out / "labels" / name)


def main():
    """Renders twice, once after another layout, and compares."""
    with tempfile.TemporaryDirectory() as folder:
        alone, after_another = Path(folder) / "alone", Path(folder) / "after-another"
        picture, labels = render(str(LAYOUT), alone)
        picture_again, labels_again = render(f"3,{LAYOUT}", after_another)
        classes = json.loads((alone / "classes.json").read_text())["classes"]
        assert [(c["index"], c["name"]) for c in classes] == [
            (i, name) for i, (name, _) in enumerate(CLASSES)
        ]
        assert picture.mode == "RGB" and picture.size == (64, 64), (picture.mode, picture.size)
        assert labels.mode == "L" and labels.size == (64, 64), (labels.mode, labels.size)
        present = set(np.unique(labels).tolist())
        assert present == PRESENT, f"layout {LAYOUT} has classes {present}, not {PRESENT}"
        # A picture that is lit and no flat colour.
        assert 20 < np.mean(picture) < 235 and np.std(picture) > 10, (np.mean(picture), np.std(picture))
        assert np.array_equal(labels, labels_again), "the label map differs between two runs"
        assert np.array_equal(picture, picture_again), "the picture differs between two runs"
    print(f"layout {LAYOUT}: {len(present)} classes as expected, two runs agree")


if __name__ == "__main__":
    main()
