# SPDX-License-Identifier: MIT OR Apache-2.0
"""Pictures, calls and comparisons of the tests that run inside GIMP. W is the folder of pictures that `run` made.

Results are compared with reference.py on the same pixels. Equal means equal bytes of the layer as GIMP stores it: both sides go
through babl once, float to the layer's format."""

import array
import os
import re
import struct
import sys

from gi.repository import Gegl, Gimp, Gio

W = os.environ["CA2SIS_TEST"]
sys.path.insert(0, W)
sys.dont_write_bytecode = True
import reference  # noqa: E402

PLUG_IN = os.path.join(Gimp.directory(), "plug-ins", "ca2sis")
JAPANESE = os.environ.get("LANGUAGE") == "ja"
NONINTERACTIVE = Gimp.RunMode.NONINTERACTIVE
SIZE = 96, 72
LIB = reference.Direct(os.path.join(PLUG_IN, "libca2sis.so"))
NAMES = ["backdrop", "table", "body", "cap", "label", "carton", "cup", "cloth", "plant", "prop"]
COLORS = ["3c3c44", "966c42", "e85850", "4648dc", "fce650", "a04ec8", "3cc8dc", "f094c8", "30aa4c", "ff8c00"]
PRECISIONS = ["U8_LINEAR", "U8_NON_LINEAR", "U8_PERCEPTUAL", "U16_LINEAR", "U16_NON_LINEAR", "U32_LINEAR", "U32_NON_LINEAR",
              "HALF_LINEAR", "HALF_NON_LINEAR", "FLOAT_LINEAR", "FLOAT_NON_LINEAR", "DOUBLE_LINEAR", "DOUBLE_NON_LINEAR"]

# ---- pictures

def file(name):
    return Gio.File.new_for_path(os.path.join(W, name))


def rectangle(width, height, x=0, y=0):
    return Gegl.Rectangle.new(x, y, width, height)


def read(drawable, format=None):
    """All of a drawable's pixels, as it stores them or in a format."""
    size = drawable.get_width(), drawable.get_height()
    return bytes(drawable.get_buffer().get(rectangle(*size), 1.0, format, Gegl.AbyssPolicy.NONE))


def write(drawable, format, data):
    buffer = drawable.get_buffer()
    buffer.set(rectangle(drawable.get_width(), drawable.get_height()), format, data)
    buffer.flush()


def scaled(name, size=SIZE):
    image = Gimp.file_load(NONINTERACTIVE, file(name))
    Gimp.context_push()
    Gimp.context_set_interpolation(Gimp.InterpolationType.NONE if "labels" in name else Gimp.InterpolationType.LINEAR)
    image.scale(*size)
    Gimp.context_pop()
    layer = image.get_layers()[0]
    data = read(layer, None if layer.is_indexed() else "R'G'B'A float")
    image.delete()
    return data


CONTENT, REFERENCE = scaled("content.png"), scaled("reference.png")
LABELS, REFERENCE_LABELS = scaled("labels.png"), scaled("reference_labels.png")
STYLE = LIB.style(REFERENCE, REFERENCE_LABELS, *SIZE)
LIB.save(STYLE, os.path.join(W, "reference.style"))
ALPHA = bytes(  # a ramp, so that alpha is seen to be kept
    b"".join(CONTENT[i * 16:i * 16 + 12] + struct.pack("f", (i % SIZE[0]) / SIZE[0]) for i in range(SIZE[0] * SIZE[1])))


def painted(labels):
    """A label map in the classes' colours, u8 RGB."""
    colors = [bytes.fromhex(color) for color in COLORS]
    return b"".join(colors[i] for i in labels)


def a_layer(image, name, size=SIZE, alpha=False, at=(0, 0), parent=None):
    gray = image.get_base_type() == Gimp.ImageBaseType.GRAY
    kind = {(0, 0): Gimp.ImageType.RGB_IMAGE, (0, 1): Gimp.ImageType.RGBA_IMAGE, (1, 0): Gimp.ImageType.GRAY_IMAGE,
            (1, 1): Gimp.ImageType.GRAYA_IMAGE}[int(gray), int(alpha)]
    layer = Gimp.Layer.new(image, name, *size, kind, 100.0, Gimp.LayerMode.NORMAL)
    layer.set_offsets(*at)
    image.insert_layer(layer, parent, -1)
    return layer


def label_layer(image, labels=LABELS, name="labels", size=SIZE, at=(0, 0)):
    layer = a_layer(image, name, size, at=at)
    write(layer, "R'G'B' u8", painted(labels))
    return layer


class Scene:
    """An image with the photograph and a label image; call() restyles it with the sample's style file."""

    def __init__(self, base="RGB", precision="U8_NON_LINEAR", alpha=False, at=(0, 0), canvas=SIZE):
        self.image = Gimp.Image.new_with_precision(*canvas, getattr(Gimp.ImageBaseType, base), getattr(Gimp.Precision, precision))
        # A layer of linear samples meets the library as such, so that its bits stay.
        self.linear = int(precision.endswith("LINEAR") and not precision.endswith("NON_LINEAR"))
        self.format = {("RGB", 0): "R'G'B'A float", ("RGB", 1): "RGBA float", ("GRAY", 0): "Y'A float", ("GRAY", 1): "YA float"}[
            base, self.linear]
        self.precision = precision
        self.photo = a_layer(self.image, "photo", alpha=alpha, at=at)
        write(self.photo, "R'G'B'A float", ALPHA if alpha else CONTENT)
        self.label_image = Gimp.Image.new(*canvas, Gimp.ImageBaseType.RGB)
        self.labels = label_layer(self.label_image, at=at)

    def floats(self):
        return read(self.photo, self.format)

    def direct(self, *arguments, **options):
        return LIB.restyle(*arguments, linear=self.linear, **options)

    def call(self, **arguments):
        options = dict(image=self.image, drawables=[self.photo], labels=self.labels, reference_file=file("reference.style"))
        options.update(arguments)
        return call("plug-in-ca2sis-restyle", **options)

    def restyled(self, **arguments):
        """The new layer, or the photo where it is changed in place."""
        before = self.image.get_layers()
        ok(self.call(**arguments))
        new = [layer for layer in self.image.get_layers() if layer not in before]
        return new[0] if new else self.photo

    def stored(self, floats, like=None):
        """What a layer of this image stores when it is given these floats."""
        like = like or self.photo
        other = Gimp.Layer.new(self.image, "stored", like.get_width(), like.get_height(), like.type(), 100.0, Gimp.LayerMode.NORMAL)
        write(other, self.format, floats)
        data = read(other)
        other.delete()
        return data

    def same(self, layer, floats, what):
        """The layer stores what the library's floats are."""
        same(read(layer), self.stored(floats, layer), self.precision, what)

    def delete(self):
        self.image.delete()
        self.label_image.delete()


def call(name, **arguments):
    procedure = Gimp.get_pdb().lookup_procedure(name)
    config = procedure.create_config()
    config.set_property("run-mode", arguments.pop("run_mode", NONINTERACTIVE))
    for key, value in arguments.items():
        key = key.replace("_", "-")
        if key == "drawables":
            config.set_core_object_array(key, value)
        else:
            config.set_property(key, value)
    result = procedure.run(config)
    status = result.index(0)
    return status, "" if status == Gimp.PDBStatusType.SUCCESS else Gimp.get_pdb().get_last_error()


def ok(result):
    assert result[0] == Gimp.PDBStatusType.SUCCESS, result


def equal(a, b, what):
    assert len(a) == len(b), f"{what}: {len(a)} bytes, not {len(b)}"
    if a != b:
        wrong = [i for i in range(len(a)) if a[i] != b[i]]
        raise AssertionError(f"{what}: {len(wrong)} of {len(a)} bytes differ, the first at {wrong[0]}: {a[wrong[0]]}, not {b[wrong[0]]}")


# Where babl has one way to convert (see `run`), mostly all bytes are equal. What may still differ between the two processes, which
# convert the pixels in other portions: a unit of 8 (in one of 1000 samples) or 16 bits, and as much of 32 bits as a float cannot
# say; in floats babl's tolerance, 1e-6.
SLACK = {"U8": ("B", 1), "U16": ("H", 1), "U32": ("I", 512), "HALF": ("e", 2.0**-10), "FLOAT": ("f", 1e-6), "DOUBLE": ("d", 1e-6)}


def same(a, b, precision, what):
    depth = precision.split("_")[0]
    kind, slack = SLACK[depth]
    assert len(a) == len(b), f"{what} {precision}: {len(a)} bytes, not {len(b)}"
    off = [abs(x - y) for x, y in zip(memoryview(a).cast(kind), memoryview(b).cast(kind)) if x != y]
    assert not off or max(off) <= slack, f"{what} {precision}: {len(off)} of {len(a)} bytes differ, by up to {max(off)}"
    assert depth != "U8" or len(off) <= len(a) / 1000, f"{what} {precision}: {len(off)} of {len(a)} bytes differ by one"


def differ(a, b, what):
    assert a != b, f"{what}: no difference"


def refused(scene, *words, **arguments):
    """The call fails with a sentence that has these words, and the image is as it was."""
    before = snapshot(scene.image)
    status, text = scene.call(**arguments)
    assert status == Gimp.PDBStatusType.EXECUTION_ERROR, (status, text)
    if JAPANESE:
        in_japanese(text)
    else:
        for word in words:
            assert word in text, f"no {word!r} in: {text}"
        assert text.rstrip()[-1] in ".:" or "\n" in text, f"no sentence: {text}"
    assert "Traceback" not in text and "Error:" not in text and "defect" not in text, text
    assert snapshot(scene.image) == before, "the image changed"
    print("   ", text.replace("\n", "\n    "))


def in_japanese(text):
    """The text is a Japanese sentence: beside names, paths and the like no two English words follow each other."""
    assert re.search("[\u3041-\u3096]", text) and "。" in text, f"no Japanese sentence: {text}"
    rest = re.sub(r"/[^ ：、。]+|「[^」]*」|CA2-SIS|--features \w+", "", text)
    assert not re.search(r"[A-Za-z]{2,}[ .,:;]+[A-Za-z]{2,}", rest), f"English in: {text}"


def snapshot(image):
    def items(layers):
        return [(layer.get_id(), layer.get_name(), layer.get_offsets(), read(layer),
                 items(layer.get_children()) if layer.is_group() else None) for layer in layers]
    selection = image.get_selection()
    return items(image.get_layers()), [c.get_id() for c in image.get_channels()], read(selection), \
        [layer.get_id() for layer in image.get_selected_layers()]


def soft_mask(layer):
    mask = layer.create_mask(Gimp.AddMaskType.WHITE)
    layer.add_mask(mask)
    width, height = layer.get_width(), layer.get_height()
    write(mask, "Y float", struct.pack(f"{width * height}f", *[
        max(0.0, min(1.0, (i % width - 20) / 40)) for i in range(width * height)]))
    layer.set_edit_mask(False)
    return mask


def floats(data):
    values = array.array("f")
    values.frombytes(data)
    return values


def selection_at(scene):
    _found, x, y = scene.photo.get_offsets()
    buffer = scene.image.get_selection().get_buffer()
    return bytes(buffer.get(rectangle(*SIZE, x, y), 1.0, "Y float", Gegl.AbyssPolicy.NONE))


def product(a, b):
    return array.array("f", [x * y for x, y in zip(floats(a), floats(b))]).tobytes()


def on(mask):
    return array.array("f", [float(v > 0) for v in floats(mask)]).tobytes()


