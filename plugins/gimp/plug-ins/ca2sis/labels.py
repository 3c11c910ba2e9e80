# SPDX-License-Identifier: MIT OR Apache-2.0
"""Label maps: a layer in the classes' colours, a group of layers named after classes, or what the model finds itself."""

import operator
import re
import sys

from gi.repository import Gimp

import cache
import library
import pixels
from messages import Trouble, _, listed, quoted

# The mark on label layers that the plug-in made, with the model's name.
PARASITE = "ca2sis-labels"

# As in the library: a colour is a class's if no channel is further off.
COLOR_LIMIT = 24

# How many wrong colours, layers or values a message lists.
LISTED = 4


class Labels:
    """A label map: the view to hand to the library, and the memory behind it."""

    def __init__(self, source, format, pixel_stride=0):
        source.format = format
        self.source, self.pixel_stride = source, pixel_stride
        self.size = source.width, source.height

    def view(self):
        return self.source.labels(self.pixel_stride)

    def step(self):
        return self.pixel_stride or {library.LABEL_U8: 1, library.LABEL_U16: 2, library.LABEL_RGB_U8: 3}[self.source.format]

    def values(self):
        """Each pixel's class index or colour as a number, fast to count."""
        data = memoryview(self.source.data)[:self.size[0] * self.size[1] * self.step()]
        if self.source.format == library.LABEL_RGB_U8 and self.step() == 3:
            # Three bytes are no number of Python's: a fourth makes them one.
            wide = bytearray(4 * self.size[0] * self.size[1])
            for channel in range(3):
                wide[channel::4] = data[channel::3]
            return memoryview(wide).cast("I")
        return data.cast({1: "B", 2: "H", 4: "I"}[self.step()])

    def scaled(self, scale, size):
        """The map at another size, by nearest."""
        (width, height), step = self.size, self.step()
        columns = [min(width - 1, int((x + 0.5) / scale)) for x in range(size[0])]
        pick = operator.itemgetter(*columns) if len(columns) > 1 else lambda row: (row[columns[0]],)
        out = bytearray(size[0] * size[1] * step)
        data = memoryview(self.source.data)
        for y in range(size[1]):
            row = data[min(height - 1, int((y + 0.5) / scale)) * width * step:][:width * step]
            for byte in range(step):
                out[y * size[0] * step + byte:(y + 1) * size[0] * step:step] = bytes(pick(row[byte::step].tobytes()))
        return Labels(pixels.own(out, *size, None), self.source.format, self.pixel_stride)

    def class_of(self, value, model):
        """The class of one of values(), its nearest class, and how far off that is."""
        if self.source.format != library.LABEL_RGB_U8:
            return (model.classes[value], None, 0) if value < len(model.classes) else (None, None, 0)
        color = value.to_bytes(4, sys.byteorder)[:3]
        nearest = min(model.classes, key=lambda c: distance(c.color, color))
        off = distance(nearest.color, color)
        return (nearest if off <= COLOR_LIMIT else None), nearest, off

    def present(self, model):
        """Indices of the classes that occur."""
        found = (self.class_of(value, model)[0] for value in set(self.values()))
        return sorted({c.index for c in found if c})

    def check(self, model, name):
        """Raises what is wrong with the values, if anything is: the library's own words are for a programmer."""
        unknown = [v for v in set(self.values()) if self.class_of(v, model)[0] is None]
        if not unknown:
            return
        from collections import Counter
        counts = Counter(self.values())
        unknown.sort(key=lambda v: -counts[v])
        total = sum(counts[v] for v in unknown)
        lines = []
        for value in unknown[:LISTED]:
            if self.source.format == library.LABEL_RGB_U8:
                _class, nearest, _off = self.class_of(value, model)
                color = value.to_bytes(4, sys.byteorder)[:3]
                lines.append(_("#{}: {} pixels, nearest class {}").format(color.hex(), counts[value], nearest.name))
            else:
                lines.append(_("value {}: {} pixels").format(value, counts[value]))
        if self.source.format == library.LABEL_RGB_U8:
            raise Trouble(_("{} has {} pixels in {} colours that are no class of {}. Paint them with the pencil, which has "
                            "no soft edge, in colours of the palette {}.").format(
                quoted(name), total, len(unknown), model.name, quoted(palette_name(model))) + "\n" + "\n".join(lines))
        raise Trouble(_("{} has {} pixels whose values are no class of {}, which knows 0 to {}. Use a label map of this "
                        "model's classes, or one in its colours.").format(
            quoted(name), total, model.name, len(model.classes) - 1) + "\n" + "\n".join(lines))


def distance(a, b):
    return max(abs(x - y) for x, y in zip(a, b))


def palette_name(model):
    return "CA2-SIS " + model.name


def class_named(name, model):
    """The class a layer is named after: "jacket", also "Jacket #1" and "jacket copy", as GIMP names copies."""
    return model.find_class(name) or model.find_class(re.sub(r"( copy)?( ?#\d+)?$", "", name.strip()))


def of_item(item, layer, model):
    """The labels of a layer by another layer or a group, of its image or of any other."""
    width, height = layer.get_width(), layer.get_height()
    # In another image of the layer's size the label map begins where it begins; else both lie on one canvas.
    apart = item.get_image() != layer.get_image() and (item.get_width(), item.get_height()) == (width, height)
    _found, x, y = (item if apart else layer).get_offsets()
    area = x, y, width, height
    if item.is_group():
        return of_group(item, area, model)
    return of_layer(item, area, model)


def of_layer(layer, area, model):
    name = layer.get_name()
    _found, left, top = layer.get_offsets()
    x, y, width, height = area[0] - left, area[1] - top, area[2], area[3]
    has = layer.get_width(), layer.get_height()
    if x < 0 or y < 0 or x + width > has[0] or y + height > has[1]:
        raise Trouble(_("The label layer {} is {} × {} pixels at {}, {} and does not cover the layer to label: {} × {} pixels at "
                        "{}, {}. Choose Layer > Layer to Image Size, or another label layer.").format(
            quoted(name), *has, left, top, width, height, area[0], area[1]))
    buffer = layer.get_buffer()
    if layer.is_indexed():
        stored, _format = pixels.get_stored(buffer, x, y, width, height)
        if layer.has_alpha():
            opaque(stored[1::2].tobytes(), name)
        indices = stored[::2 if layer.has_alpha() else 1].tobytes()
        # By the colours that the user sees, if they are the classes'; else the indices are the classes.
        by_color = Labels(pixels.get(buffer, x, y, width, height, "R'G'B' u8"), library.LABEL_RGB_U8)
        if all(by_color.class_of(value, model)[0] for value in set(by_color.values())):
            return by_color
        return Labels(pixels.own(indices, width, height, None), library.LABEL_U8)
    if layer.has_alpha():
        alpha = pixels.get(buffer, x, y, width, height, "A u8")
        opaque(memoryview(alpha.data)[:width * height].tobytes(), name)
    if layer.is_gray():
        deep = pixels.get(buffer, x, y, width, height, "Y' u16", own=True)
        # A map of 16-bit indices as it was stored; one of 8 bits that GIMP made deeper has all values 257 times as large.
        if 0 < max(set(memoryview(deep.data)[:2 * width * height].cast("H"))) < 256:
            return Labels(deep, library.LABEL_U16)
        return Labels(pixels.get(buffer, x, y, width, height, "Y' u8", own=True), library.LABEL_U8)
    return Labels(pixels.get(buffer, x, y, width, height, "R'G'B' u8"), library.LABEL_RGB_U8)


def opaque(alpha, name):
    clear = len(alpha) - alpha.count(255)
    if clear:
        raise Trouble(_("{} of the {} pixels of the label layer {} are transparent. Give each one a class: fill them with a "
                        "colour of the palette.").format(clear, len(alpha), quoted(name)))


def of_group(group, area, model):
    """Each pixel has the class of the uppermost visible layer that covers it by half or more."""
    x, y, width, height = area
    unknown = []
    layers = []
    for child in group.get_children():
        if not child.get_visible():
            continue
        found = class_named(child.get_name(), model)
        layers.append((child, found))
        if not found:
            unknown.append(child.get_name())
    if unknown:
        raise Trouble(_("Layers in the group {} are not named after classes of {}: {}. Rename or hide them; the classes are: "
                        "{}.").format(quoted(group.get_name()), model.name, listed(quoted(n) for n in unknown[:LISTED]),
                                      listed(c.name for c in model.classes)))
    # Whole maps as one number each, a byte a pixel: fast without any package.
    count = width * height
    half = bytes(128) + bytes([255]) * 128
    labels = covered = 0
    for child, found in reversed(layers):
        _found, left, top = child.get_offsets()
        parts = [pixels.get(child.get_buffer(), x - left, y - top, width, height, "A u8")]
        mask = child.get_mask()
        if mask is not None and child.get_apply_mask():
            parts.append(pixels.get(mask.get_buffer(), x - left, y - top, width, height, "Y u8"))
        here = -1
        for part in parts:
            here &= int.from_bytes(part.data[:count].translate(half), "little")
        labels = (labels & ~here) | (int.from_bytes(bytes([found.index]) * count, "little") & here)
        covered |= here
    left_over = covered.to_bytes(count, "little").count(0)
    if left_over:
        raise Trouble(_("{} of the {} pixels are covered by no layer of the group {}. Put a layer with all of the rest at its "
                        "bottom, named after its class, such as {}.").format(
            left_over, count, quoted(group.get_name()), quoted(model.classes[0].name)))
    return Labels(pixels.own(labels.to_bytes(count, "little"), width, height, None), library.LABEL_U8)


def could_be(item, model=None):
    """Whether a layer or group looks like a label map: marked by the plug-in, named so, or a group of classes."""
    if item.get_parasite(PARASITE) is not None or re.search(r"label|ラベル", item.get_name(), re.IGNORECASE):
        return True
    if model is None or not item.is_group():
        return False
    names = [child.get_name() for child in item.get_children() if child.get_visible()]
    return bool(names) and all(class_named(name, model) for name in names)


def find(image, model, but=()):
    """The layer or group of an image that is most likely its label map; None."""
    items = [item for item in image.get_layers() if item.get_id() not in but and could_be(item, model)]
    items.sort(key=lambda item: item.get_parasite(PARASITE) is None)
    return items[0] if items else None


def automatic(layer, model, what, progress=None):
    """The labels that the model finds in a layer."""
    if not model.can_label():
        raise Trouble(_("The model {} does not find labels by itself. Choose labels for {}: a layer painted in the colours of the "
                        "palette {}, or a group whose layers are named after classes.").format(
            model.name, what, quoted(palette_name(model))))
    width, height = layer.get_width(), layer.get_height()
    stored, form = pixels.get_stored(layer.get_buffer(), 0, 0, width, height)
    key = cache.digest(model.fingerprint(), f"{width} {height}", form, stored) + ".labels"
    del stored
    known = cache.read(key)
    if known is not None and len(known) == width * height:
        return Labels(pixels.own(known, width, height, None), library.LABEL_U8)
    map = Labels(model.label(pixels.get(layer.get_buffer(), 0, 0, width, height, pixels.color_format(layer)), progress),
                 library.LABEL_U8)
    cache.write(key, memoryview(map.source.data)[:width * height])
    return map


def add_layer(image, layer, model, map):
    """Puts a map (Labels, one byte a class) above the layer it is of, to be corrected by brush: a layer in the classes' colours,
    or in a gray image a group of layers named after classes. One undo step."""
    width, height = map.size
    values = memoryview(map.source.data)[:width * height].tobytes()
    _found, x, y = layer.get_offsets()
    parent, position = layer.get_parent(), image.get_item_position(layer)
    name = _("{} labels").format(layer.get_name())
    image.undo_group_start()
    try:
        if layer.is_gray():
            item = Gimp.GroupLayer.new(image, name)
            image.insert_layer(item, parent, position)
            for found in (c for c in model.classes if c.index in values):
                child = Gimp.Layer.new(image, found.name, width, height, Gimp.ImageType.GRAYA_IMAGE, 100.0, Gimp.LayerMode.NORMAL)
                child.set_offsets(x, y)
                table = bytes(255 if i == found.index else 0 for i in range(256))
                filled = bytearray(b"\x80" * (2 * width * height))
                filled[1::2] = values.translate(table)
                pixels.put(child.get_buffer(), pixels.own(filled, width, height, None), "Y'A u8")
                image.insert_layer(child, item, 0)
        else:
            item = Gimp.Layer.new(image, name, width, height, Gimp.ImageType.RGB_IMAGE, 100.0, Gimp.LayerMode.NORMAL)
            item.set_offsets(x, y)
            colors = bytearray(3 * width * height)
            for channel in range(3):
                table = bytes(model.classes[i].color[channel] if i < len(model.classes) else 0 for i in range(256))
                colors[channel::3] = values.translate(table)
            pixels.put(item.get_buffer(), pixels.own(colors, width, height, None), "R'G'B' u8")
            image.insert_layer(item, parent, position)
        # The photograph shows through, so that one sees where to paint; labels are read from the pixels alone.
        item.set_opacity(60.0)
        item.attach_parasite(Gimp.Parasite.new(PARASITE, Gimp.PARASITE_PERSISTENT | Gimp.PARASITE_UNDOABLE,
                                               str(layer.get_tattoo()).encode()))
        image.set_selected_layers([item])
        return item
    finally:
        image.undo_group_end()


def labelled_by(item):
    """The photograph that a label layer made by the plug-in is of; None."""
    parasite = item.get_parasite(PARASITE)
    if parasite is None:
        return None
    try:
        photograph = item.get_image().get_layer_by_tattoo(int(bytes(parasite.get_data()).rstrip(b"\0")))
    except ValueError:
        return None
    return photograph if photograph is not None and photograph != item else None


def palette(model):
    """GIMP's palette of the classes' colours: made, or brought up to date."""
    from gi.repository import Gegl
    name = palette_name(model)
    found = Gimp.Palette.get_by_name(name)
    wanted = [(each.name, Gegl.Color.new("#%02x%02x%02x" % each.color)) for each in model.classes]
    if found is not None and not is_of(found, wanted):
        found.delete()
        found = None
    if found is None:
        found = Gimp.Palette.new(name)
        for entry in wanted:
            found.add_entry(*entry)
    return found


def is_of(palette, entries):
    def has(i, name, color):
        there = zip(palette.get_entry_color(i).get_rgba(), color.get_rgba())
        return palette.get_entry_name(i)[1] == name and all(abs(a - b) < 1e-3 for a, b in there)
    return palette.get_color_count() == len(entries) and all(has(i, *entry) for i, entry in enumerate(entries))
