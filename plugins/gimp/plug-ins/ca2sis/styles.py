# SPDX-License-Identifier: MIT OR Apache-2.0
"""Where a style comes from: a layer, a picture file, a style file. Each is extracted once and kept by what it was made of."""

import os

from gi.repository import Gimp, GLib

import cache
import labels
import library
import pixels
from messages import Trouble, _, quoted
from said import translated

ENDING = ".style"


def cached(model, key, extract):
    """The style of this name: from the cache, or extracted and put there."""
    path = cache.path(key + ENDING)
    if os.path.exists(path):
        try:
            style = model.open_style(path)
            cache.used(path)
            return style
        except Trouble:
            pass  # damaged, or of another format: made again
    style = extract()
    try:
        cache.make()
        style.save(path)
        cache.trim()
    except (Trouble, OSError):
        pass  # a cache that cannot be written only costs time
    return style


class Own:
    """The photograph's own style, from one run to the next: half of a restyling is to find it. The library looks whether it is
    of the very pixels and labels that it sees, so that a name which fits too often does no harm."""

    def __init__(self, model, content, labels, target, mask, settings):
        self.model = model
        classes = settings["classes"]
        # What moves the window that the library looks at.
        asked = sorted(index for index, strength in classes.items() if strength > 0) if settings["coupling"] == 0 else []
        parts = [part for part in (content, labels.source, target and target.source, mask) if part]
        self.name = "own-" + cache.digest(model.fingerprint(), str((asked, [(p.width, p.height, p.format) for p in parts])),
                                          *map(cache.rows, parts)) + ENDING
        self.kept = library.Kept(model)
        path = cache.path(self.name)
        if os.path.exists(path):
            try:
                self.kept = library.Kept(model, model.open_style(path))
                cache.used(path)
            except Trouble:
                pass  # damaged, or of another format: made again

    def save(self, report):
        """After a restyling with it: keeps what is new."""
        if self.kept.handle and not report.content_style_used:
            try:
                cache.make()
                self.kept.save(cache.path(self.name))
                cache.trim()
            except (Trouble, OSError):
                pass  # a cache that cannot be written only costs time


class Remembered:
    """The style of the last time, when its layer or image is gone: Repeat goes on with it."""

    def __init__(self, key):
        self.key = key

    def style(self, model, progress=None):
        path = cache.path(self.key + ENDING)
        if not os.path.exists(path):
            raise Trouble(_("The reference of the last time is not there any more. Choose Filters > CA2-SIS Restyle… and pick a "
                            "reference."))
        try:
            style = model.open_style(path)
            cache.used(path)
            return style
        except Trouble:
            raise Trouble(_("The reference of the last time was for another model. Choose Filters > CA2-SIS Restyle… and pick a "
                            "reference.")) from None


class StyleFile:
    def __init__(self, path):
        self.path = path
        self.key = ""

    def style(self, model, progress=None):
        if not os.path.exists(self.path):
            raise Trouble(_("There is no style file {}. Pick another reference.").format(self.path))
        try:
            return model.open_style(self.path)
        except Trouble as trouble:
            raise Trouble(_("{} cannot be used with the model {}: {} Pick another reference, or the model that the style was "
                            "saved with.").format(self.path, model.name, trouble)) from None


class Layer:
    """A layer of any open image, under its label layer or, without one, what the model finds."""

    def __init__(self, layer, item):
        self.layer, self.item = layer, item
        self.key = ""

    def style(self, model, progress=None):
        layer = self.layer
        check_reference(layer)
        width, height = layer.get_width(), layer.get_height()
        map = labels_for(layer, self.item, model)
        stored, format = pixels.get_stored(layer.get_buffer(), 0, 0, width, height)
        self.key = cache.digest(model.fingerprint(), f"{width} {height} {map.source.format} {map.pixel_stride}", format, stored,
                          map.source.data)
        del stored
        return cached(model, self.key, lambda: self.extract(model, map, progress))

    def extract(self, model, map, progress):
        width, height = self.layer.get_width(), self.layer.get_height()
        picture = pixels.get(self.layer.get_buffer(), 0, 0, width, height,
                             pixels.color_format(self.layer))
        try:
            return model.extract(picture, map.view(), progress)
        except Trouble:
            map.check(model, self.item.get_name() if self.item else self.layer.get_name())
            raise


class File:
    """A picture file, under a label file, label layers of its own, or what the model finds."""

    def __init__(self, path, labels_path):
        self.path, self.labels_path = path, labels_path
        self.key = ""

    def style(self, model, progress=None):
        try:
            self.key = cache.digest(model.fingerprint(), file_bytes(self.path), file_bytes(self.labels_path))
        except OSError as error:
            raise Trouble(_("{} cannot be read: {}. Pick another reference.").format(error.filename, translated(error.strerror))) from None
        return cached(model, self.key, lambda: self.extract(model, progress))

    def extract(self, model, progress):
        image = other = None
        try:
            image = load(self.path)
            other = load(self.labels_path) if self.labels_path else None
            if other:
                item = labels.find(other, model) or other.get_layers()[0]
                item.set_name(os.path.basename(self.labels_path))
            else:
                item = labels.find(image, model)
            rest = [layer for layer in image.get_layers() if other or not labels.could_be(layer, model)]
            if not rest:
                raise Trouble(_("{} has no picture beside its labels. Pick another reference.").format(self.path))
            layer = rest[0]
            if len(rest) > 1:
                for each in image.get_layers():
                    each.set_visible(each in rest and each.get_visible())
                layer = image.merge_visible_layers(Gimp.MergeType.CLIP_TO_IMAGE)
            layer.set_name(os.path.basename(self.path))
            return Layer(layer, item).extract(model, labels_for(layer, item, model), progress)
        finally:
            for each in (image, other):
                if each:
                    each.delete()


def file_bytes(path):
    if not path:
        return b""
    with open(path, "rb") as file:
        return file.read()


def load(path):
    from gi.repository import Gio
    try:
        image = Gimp.file_load(Gimp.RunMode.NONINTERACTIVE, Gio.File.new_for_path(path))
    except GLib.Error as error:
        raise Trouble(_("{} cannot be opened: {} Pick another file.").format(path, error.message)) from None
    if image is not None and not image.get_layers():
        image.delete()
        image = None
    if image is None:
        raise Trouble(_("{} is no picture that GIMP can open. Pick another file.").format(path))
    image.policy_rotate(False)
    return image


def check_reference(layer):
    if not isinstance(layer, Gimp.Layer) or not layer.is_valid():
        raise Trouble(_("The reference is no layer. Pick a layer, or a picture file."))


def labels_for(layer, item, model):
    """The labels of a reference layer."""
    if item is None:
        return labels.automatic(layer, model, _("the reference"))
    if not item.is_valid():
        raise Trouble(_("The label layer of the reference is not there any more. Pick another."))
    size = layer.get_width(), layer.get_height()
    if item.get_image() != layer.get_image() and not item.is_group() and (item.get_width(), item.get_height()) != size:
        raise Trouble(_("The reference is {} × {} pixels, but its label layer {} is {} × {}. Use a label map of the same "
                        "size.").format(*size, quoted(item.get_name()), item.get_width(), item.get_height()))
    return labels.of_item(item, layer, model)
