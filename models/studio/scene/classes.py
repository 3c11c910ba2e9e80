"""The label map's classes."""

import json

BACKDROP, TABLE, BODY, CAP, LABEL, CARTON, CUP, CLOTH, PLANT, PROP = range(10)

# Name and display colour (sRGB, 0..255) of each class, by index.
CLASSES = [
    ("backdrop", (60, 60, 68)),
    ("table", (150, 108, 66)),
    ("body", (232, 88, 80)),
    ("cap", (70, 72, 220)),
    ("label", (252, 230, 80)),
    ("carton", (160, 78, 200)),
    ("cup", (60, 200, 220)),
    ("cloth", (240, 148, 200)),
    ("plant", (48, 170, 76)),
    ("prop", (255, 140, 0)),
]


def classes_json():
    """The text of `classes.json`, which `ca2sis train` and `ca2sis eval` read beside the pictures."""
    classes = [{"index": i, "name": name, "color": color} for i, (name, color) in enumerate(CLASSES)]
    return json.dumps({"classes": classes}, indent=1)
