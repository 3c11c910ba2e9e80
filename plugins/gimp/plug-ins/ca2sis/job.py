# SPDX-License-Identifier: MIT OR Apache-2.0
"""One restyling: reads what GIMP has, lets the library work, writes the result. Nothing changes before the last step."""

import os

from gi.repository import Gimp

import labels
import library
import pixels
import styles
from messages import Trouble, _, listed, quoted

FOLDER = os.path.dirname(os.path.abspath(__file__))


class Settings:
    """What to do: the procedure's arguments, read once."""

    def __init__(self, config):
        def path(name):
            file = config.get_property(name)
            return file.get_path() or file.get_uri() if file else None

        def value(name):
            return config.get_property(name)

        self.labels = value("labels")
        self.target_labels = value("target-labels")
        self.reference = value("reference")
        self.reference_labels = value("reference-labels")
        self.reference_file = path("reference-file")
        self.reference_labels_file = path("reference-labels-file")
        self.model = path("model")
        self.strength, self.coupling, self.morph = value("strength"), value("coupling"), value("morph")
        self.classes = value("classes") or ""
        self.method, self.device, self.output = value("method"), value("device"), value("output")
        self.style_key = value("style-key") or ""
        self.labels_name = value("labels-name") or ""
        self.target_labels_name = value("target-labels-name") or ""

    def remember(self, config, source):
        """Puts what a later Repeat needs, and GIMP does not keep, into the settings."""
        config.set_property("style-key", source.key)
        config.set_property("labels-name", self.labels.get_name() if self.labels else "")
        config.set_property("target-labels-name", self.target_labels.get_name() if self.target_labels else "")
        # GIMP cannot keep layers, and would say so at each run.
        for name in ("labels", "target-labels", "reference", "reference-labels"):
            config.set_property(name, None)

    def recall(self, image):
        """For Repeat: finds the layers of the last time again, by their names in this image."""
        def find(name, what):
            item = image.get_layer_by_name(name)
            if item is None:
                raise Trouble(_("The last time, {} came from the layer {}, which this image does not have. Choose Filters > "
                                "CA2-SIS Restyle… and pick another.").format(what, quoted(name)))
            return item

        if self.labels is None and self.labels_name:
            self.labels = find(self.labels_name, _("the labels"))
        if self.target_labels is None and self.target_labels_name:
            self.target_labels = find(self.target_labels_name, _("the new shapes"))

    def source(self, repeat=False):
        """The reference."""
        if self.reference is not None and self.reference_file:
            raise Trouble(_("There are two references, a layer and a file. Give one of them."))
        if self.reference is not None:
            return styles.Layer(self.reference, self.reference_labels)
        if self.reference_file and not (repeat and self.style_key and not os.path.exists(self.reference_file)):
            if self.reference_file.endswith(styles.ENDING):
                return styles.StyleFile(self.reference_file)
            return styles.File(self.reference_file, self.reference_labels_file)
        if repeat and self.style_key:
            return styles.Remembered(self.style_key)
        raise Trouble(_("There is no reference. Pick a layer, a picture file or a style file whose look is wanted."))

    def strengths(self, model):
        """The classes to restyle with their strengths; empty for all."""
        return parse_classes(self.classes, model)


def parse_classes(text, model):
    """"body=0.5,cap" as {index: strength}: the form of the command line's --classes."""
    strengths = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, _equals, number = part.partition("=")
        found = model.find_class(name)
        if not found:
            raise Trouble(_("{} is no class of the model {}. Its classes are: {}.").format(
                quoted(name.strip()), model.name, listed(c.name for c in model.classes)))
        try:
            value = float(number) if number else 1.0
        except ValueError:
            value = -1.0
        if not 0.0 <= value <= 1.0:
            raise Trouble(_("The strength of {} is {}. Give a number from 0 to 1.").format(found.name, number))
        strengths[found.index] = value
    return strengths


def write_classes(strengths, model):
    return ",".join(f"{model.classes[index].name}={value:.4g}" for index, value in sorted(strengths.items()))


def the_layer(image, drawables):
    """The layer to work on, or what is wrong with what is selected."""
    if image.get_base_type() == Gimp.ImageBaseType.INDEXED:
        raise Trouble(_("The image has indexed colours, which leave no room for a new look. Choose Image > Mode > RGB first."))
    if len(drawables) != 1:
        raise Trouble(_("{} layers are selected. Select the one to work on.").format(len(drawables)) if drawables
                      else _("No layer is selected. Select the one to work on."))
    layer = drawables[0]
    if isinstance(layer, Gimp.LayerMask):
        layer = Gimp.Layer.from_mask(layer)
    if not isinstance(layer, Gimp.Layer):
        raise Trouble(_("{} is no layer. Select the layer to work on.").format(quoted(layer.get_name())))
    if layer.is_floating_sel():
        raise Trouble(_("The selection floats. Anchor it in the Layers dialog first, or make it a new layer."))
    return layer


def the_photograph(layer, settings):
    """The layer to restyle: of a label layer that the plug-in made, the photograph it is of."""
    photograph = labels.labelled_by(layer)
    if photograph is None:
        return layer
    if settings.labels is None:
        settings.labels = layer
    return photograph


def locked(item):
    """The item, or the group around it, whose pixels are locked."""
    while item is not None:
        if item.get_lock_content():
            return item
        item = item.get_parent()
    return None


class Job:
    """Made, gathered and finished on GIMP's thread; run() may be on any."""

    def __init__(self, image, layer, settings, lib, model=None, style=None):
        self.image, self.layer, self.settings = image, layer, settings
        self.in_place = settings.output == "in-place"
        self.check_layer()
        self.model = model or lib.open_model(settings.model, settings.device)
        self.style, self.report = style, None

    def check_layer(self):
        layer = self.layer
        if self.in_place:
            if layer.is_group():
                raise Trouble(_("{} is a layer group, which has no pixels of its own. Choose the output New layer.").format(
                    quoted(layer.get_name())))
            if any(getattr(layer, kind)() for kind in ("is_text_layer", "is_link_layer", "is_vector_layer") if hasattr(layer, kind)):
                raise Trouble(_("{} is drawn from text, a path or a file, and would be drawn anew over the result. Choose the output "
                                "New layer.").format(quoted(layer.get_name())))
            lock = locked(layer)
            if lock:
                raise Trouble(_("The pixels of {} are locked. Unlock them in the Layers dialog, or choose the output New "
                                "layer.").format(quoted(lock.get_name())))
        else:
            lock = locked(layer.get_parent())
            if lock:
                raise Trouble(_("The group {} is locked, so that it takes no new layer. Unlock it in the Layers dialog.").format(
                    quoted(lock.get_name())))
            if [f for f in layer.get_filters() if f.get_visible()]:
                raise Trouble(_("{} has live filters, which a new layer made of its pixels would not show. Merge them first, by "
                                "the fx in the Layers dialog, or choose the output In place.").format(quoted(layer.get_name())))
        if not Gimp.Selection.is_empty(self.image) and not layer.mask_intersect()[0]:
            raise Trouble(_("The selection does not touch {}. Select a part of it, or choose Select > None to restyle all of "
                            "it.").format(quoted(layer.get_name())))

    def gather(self, source=None, progress=None):
        """Reads labels, style, mask and pixels."""
        layer, settings, model = self.layer, self.settings, self.model
        width, height = layer.get_width(), layer.get_height()
        self.labels, self.target = read_labels(layer, settings, model)
        self.strengths = settings.strengths(model)
        if self.style is None:
            self.style = source.style(model, progress)
        mask = pixels.Mask(layer).read()
        self.mask = self.touched = self.library_mask = None
        if mask is not None:
            self.library_mask = self.touched = pixels.touched(mask)
            if pixels.is_black(self.touched):
                raise Trouble(_("The mask of {} is black wherever it may change. Paint white where to restyle, or remove the "
                                "mask.").format(quoted(layer.get_name())))
            # A new layer keeps the mask, so that its pixels are the result before the mask; in place the library composites.
            if self.in_place:
                self.library_mask, self.touched = mask, pixels.Packed(self.touched)
            else:
                self.mask, self.touched = pixels.Packed(mask), None
            del mask
        self.format = pixels.color_format(layer)
        self.content = pixels.get(layer.get_buffer(), 0, 0, width, height, self.format)

    def run(self, progress=None):
        settings = self.settings
        own = None
        if settings.method == "network":
            given = {"classes": self.strengths, "coupling": settings.coupling}
            own = styles.Own(self.model, self.content, self.labels, self.target, self.library_mask, given)
        try:
            self.report = self.model.restyle(
                self.content, self.labels.view(), self.style, target=self.target and self.target.view(), mask=self.library_mask,
                classes=self.strengths, strength=settings.strength, coupling=settings.coupling, morph=settings.morph,
                method=settings.method, own=own and own.kept, progress=progress)
        except Trouble:
            self.labels.check(self.model, settings.labels.get_name() if settings.labels else self.layer.get_name())
            if self.target:
                self.target.check(self.model, settings.target_labels.get_name())
            raise
        if own:
            own.save(self.report)
        self.present = self.labels.present(self.model) if self.report.missing_count else []
        self.labels = self.target = self.library_mask = None

    def named(self, note):
        return [c.name for c in self.model.classes if self.report.notes[c.index] & note]

    def check_report(self, by_name=True):
        """Raises why a result is worth nothing: nothing to do, or no look for a class that was asked for `by_name`."""
        missing = self.named(library.NOTE_MISSING)
        if missing and (by_name and self.strengths or not any(self.style.has(c) for c in self.present)):
            raise Trouble(_("The reference shows no {}. Pick one that does, or give the class the strength 0.").format(
                listed(missing)))
        if self.report.window_side == 0:
            raise Trouble(_("There is nothing to restyle: no class that is to change is in {}, or its strength is 0.").format(
                quoted(self.layer.get_name())))

    def notes(self):
        """What the user should know of a result that is there."""
        missing, unseen = self.named(library.NOTE_MISSING), self.named(library.NOTE_UNSEEN)
        told = []
        if missing:
            told.append(_("The reference shows no {}: it kept its own look.").format(listed(missing)))
        if unseen:
            told.append(_("Too small to be seen by the model, and left as it is: {}.").format(listed(unseen)))
        return " ".join(told)

    def finish(self, show=False):
        """Writes the result, as one undo step; the layer that holds it. `show` hides the labels that lie over it."""
        self.image.undo_group_start()
        try:
            result = self.write_in_place() if self.in_place else self.write_new_layer()
            item = self.settings.labels
            if show and item and item.get_image() == self.image and labels.could_be(item):
                item.set_visible(False)
            return result
        finally:
            self.image.undo_group_end()

    def write_new_layer(self):
        layer, image = self.layer, self.image
        _found, x, y = layer.get_offsets()
        new = Gimp.Layer.new(image, _("{} restyled").format(layer.get_name()), layer.get_width(), layer.get_height(),
                             layer.type(), 100.0, Gimp.LayerMode.NORMAL)
        pixels.put(new.get_buffer(), self.content, self.format)
        self.content = None
        new.set_offsets(x, y)
        if self.mask is not None:
            mask = new.create_mask(Gimp.AddMaskType.WHITE)
            pixels.put(mask.get_buffer(), self.mask.unpacked(), "Y float")
            new.add_mask(mask)
            new.set_edit_mask(False)
        # Whole and only now: a plug-in that is killed before leaves the image as it was.
        image.insert_layer(new, layer.get_parent(), image.get_item_position(layer))
        return new

    def write_in_place(self):
        layer, image = self.layer, self.image
        shadow = layer.get_shadow_buffer()
        if self.touched:
            # What is outside never leaves the form it is stored in.
            pixels.copy(layer.get_buffer(), shadow, layer.get_width(), layer.get_height())
        pixels.put(shadow, self.content, self.format, self.touched and self.touched.unpacked())
        self.content = None
        selected = None
        if not Gimp.Selection.is_empty(image):
            # The selection is in the mask already; merging under it would count its soft edges twice.
            layers = image.get_selected_layers()
            selected = Gimp.Selection.save(image)
            Gimp.Selection.none(image)
        try:
            if not layer.merge_shadow(True):
                raise Trouble(_("GIMP does not let the pixels of {} be changed. Unlock the layer, or choose the output New "
                                "layer.").format(quoted(layer.get_name())))
            layer.update(0, 0, layer.get_width(), layer.get_height())
        finally:
            if selected:
                image.select_item(Gimp.ChannelOps.REPLACE, selected)
                image.remove_channel(selected)
                image.set_selected_layers(layers)
        return layer


def read_labels(layer, settings, model):
    """The labels of the layer, and the target labels or None."""
    def read(item, what):
        if not item.is_valid():
            raise Trouble(_("The label layer of {} is not there any more. Pick another.").format(what))
        if item == layer:
            raise Trouble(_("{} is to be restyled and holds the labels at once. Select the photograph's layer before you start, or "
                            "pick another label layer.").format(quoted(item.get_name())))
        return labels.of_item(item, layer, model)

    own = read(settings.labels, _("the photograph")) if settings.labels else labels.automatic(layer, model, quoted(layer.get_name()))
    target = None
    if settings.target_labels is not None and settings.morph > 0.0:
        if settings.method == "statistics":
            raise Trouble(_("Colour statistics draw no new shapes. Choose the method Network, or no layer for new shapes."))
        target = read(settings.target_labels, _("the new shapes"))
    return own, target


def open_library():
    return library.Library(FOLDER)
