# SPDX-License-Identifier: MIT OR Apache-2.0
"""The dialog of CA2-SIS Restyle."""

import os
import threading

import gi

gi.require_version("Gdk", "3.0")
gi.require_version("Gtk", "3.0")
gi.require_version("GimpUi", "3.0")
from gi.repository import Gdk, Gimp, GimpUi, Gio, GLib, Gtk  # noqa: E402

import cache  # noqa: E402
import job  # noqa: E402
import labels  # noqa: E402
import library  # noqa: E402
import pixels  # noqa: E402
import styles  # noqa: E402
from messages import Cancelled, Trouble, _, listed, sentence  # noqa: E402
from preview import Preview, Task, Worker  # noqa: E402
from widgets import AUTOMATIC, FILE, NONE, Choice, FileButton, Slider, layer_rows, swatch  # noqa: E402


def restyle(procedure, config, image, drawables):
    GimpUi.init("ca2sis")
    settings = job.Settings(config)
    layer = job.the_photograph(job.the_layer(image, drawables), settings)
    config.set_property("labels", settings.labels)
    dialog = Dialog(procedure, config, image, layer)
    try:
        dialog.run()
    finally:
        dialog.close()


class Dialog:
    def __init__(self, procedure, config, image, layer):
        self.procedure, self.config, self.image, self.layer = procedure, config, image, layer
        self.library = self.model = self.model_key = None
        self.labels = self.target = self.mask = self.style = self.style_source = None
        self.class_rows, self.present = {}, []
        self.pending, self.stale, self.guess = None, set(), True
        self.size_read = None
        self.running = self.cancelled = False
        self.quiet = False
        self.library = job.open_library()
        self.window = GimpUi.ProcedureDialog.new(procedure, config, _("CA2-SIS Restyle"))
        self.window.set_default_size(1040, -1)
        self.window.set_ok_label(_("Rest_yle"))
        self.build()
        self.recall()
        self.load()
        self.worker = Worker(self.on_preview)
        self.window.connect("response", self.on_response)
        self.window.connect("delete-event", self.stop)
        self.window.connect("key-press-event", self.on_key)
        self.window.show_all()
        self.show_rows()
        # The window first; what has to be read from GIMP comes once it is there.
        self.update("model")

    # ---- what it looks like

    def build(self):
        columns = Gtk.Box(spacing=18, border_width=12)
        columns.pack_start(self.left(), True, True, 0)
        self.names = Gtk.SizeGroup(mode=Gtk.SizeGroupMode.HORIZONTAL)
        self.controls = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=9)
        for part in (self.photograph_part, self.reference_part, self.change_part, self.classes_part, self.output_part, self.model_part):
            part()
        # Of one width, so that a long file name does not push the preview aside; scrolled where the screen is low.
        column = Gtk.ScrolledWindow(hscrollbar_policy=Gtk.PolicyType.EXTERNAL, propagate_natural_height=True, min_content_width=390,
                                    min_content_height=420)
        column.add(self.controls)
        columns.pack_start(column, False, False, 0)
        self.window.get_content_area().pack_start(columns, True, True, 0)
        self.buttons()

    def left(self):
        """The preview and what is said of it."""
        left = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=6)
        self.preview = Preview()
        self.preview.connect("size-allocate", self.on_resize)
        left.pack_start(self.preview, True, True, 0)
        line = Gtk.Box(spacing=12)
        split = Gtk.CheckButton(label=_("Split vie_w"), use_underline=True)
        split.connect("toggled", lambda button: self.preview.set_split(button.get_active()))
        line.pack_start(split, False, False, 0)
        hint = Gtk.Label(label=_("Hold the button down on the picture to see the original"))
        hint.get_style_context().add_class("dim-label")
        split.connect("toggled", lambda button: hint.set_visible(not button.get_active()))
        line.pack_start(hint, False, False, 0)
        self.spinner = Gtk.Spinner()
        line.pack_end(self.spinner, False, False, 0)
        left.pack_start(line, False, False, 0)
        self.note = Gtk.Label(xalign=0, wrap=True, max_width_chars=60)
        self.note_icon = Gtk.Image()
        notes = Gtk.Box(spacing=6)
        notes.pack_start(self.note_icon, False, False, 0)
        notes.pack_start(self.note, True, True, 0)
        # Of one height, so that a note does not move the picture.
        notes.set_size_request(-1, 46)
        left.pack_start(notes, False, False, 0)
        self.bar = Gtk.ProgressBar(show_text=True, no_show_all=True)
        left.pack_start(self.bar, False, False, 0)
        return left

    def frame(self, title):
        box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=6)
        outer = GimpUi.Frame.new(title)
        outer.add(box)
        self.controls.pack_start(outer, False, False, 0)
        return box

    def row(self, box, name, widget, tip):
        label = Gtk.Label(label=name, xalign=0, use_underline=True)
        label.set_mnemonic_widget(widget)
        self.names.add_widget(label)
        line = Gtk.Box(spacing=6)
        line.pack_start(label, False, False, 0)
        line.pack_start(widget, True, True, 0)
        line.set_tooltip_text(tip)
        box.pack_start(line, False, False, 0)
        return line

    def slider(self, box, name, label, tip):
        slider = Slider(lambda: self.set(name, slider.get(), "preview"), label)
        slider.widget.set_tooltip_text(tip)
        box.pack_start(slider.widget, False, False, 0)
        return slider

    def choice(self, name, then):
        choice = Choice(lambda: self.set(name, choice.value(), then))
        return choice

    def photograph_part(self):
        box = self.frame(_("Photograph: {}").format(self.layer.get_name()))
        self.labels_box = self.choice("labels", "labels")
        self.row(box, _("_Labels"), self.labels_box, _("What is where: a layer painted in the classes' colours, or a group whose layers "
                                                       "are named after classes"))
        self.target_box = self.choice("target-labels", "labels")
        self.row(box, _("_New shapes"), self.target_box, _("Labels that say how the objects are to be shaped instead"))
        self.morph = self.slider(box, "morph", _("_Morph (%)"), _("How far the shapes go to the new ones"))

    def reference_part(self):
        box = self.frame(_("Reference"))
        self.reference_box = Choice(self.on_reference)
        line = self.row(box, _("L_ook of"), self.reference_box, _("The picture whose look is wanted: a layer of any open image, a picture "
                                                                  "file, or a saved style"))
        self.reference_file = FileButton(_("Pick a picture or a saved style"), self.on_reference_file, [
            (_("Pictures and styles"), ("image/*",), ("*" + styles.ENDING, "*.xcf"))])
        line.pack_start(self.reference_file, True, True, 0)
        self.reference_labels_box = Choice(self.on_reference_labels)
        self.reference_labels_row = self.row(box, _("L_abels"), self.reference_labels_box, _("What is where in the reference"))
        self.reference_labels_file = FileButton(_("Pick the label map of the reference"), self.on_reference_labels_file, [
            (_("Pictures"), ("image/*",), ("*.xcf",))])
        self.reference_labels_row.pack_start(self.reference_labels_file, True, True, 0)

    def change_part(self):
        box = self.frame(_("Change"))
        self.strength = self.slider(box, "strength", _("S_trength (%)"), _("How much of the reference's look; 0 keeps the photograph"))
        self.coupling = self.slider(box, "coupling", _("Co_upling (%)"), _("How far the change of light and cast colours on all other "
                                                                           "classes comes through"))
        self.method = self.choice("method", "preview")
        self.method.fill([(None, _("Network"), "network"), (None, _("Colour statistics"), "statistics")], "network")
        self.row(box, _("M_ethod"), self.method, _("Network: light and materials as the model learned them. Colour statistics: each "
                                                   "class's mean and spread of colour, nothing else"))

    def classes_part(self):
        box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=6)
        title = Gtk.Box(spacing=6)
        name = Gtk.Label(xalign=0)
        name.set_markup("<b>" + GLib.markup_escape_text(_("Classes (%)")) + "</b>")
        title.pack_start(name, True, True, 0)
        for text, value in ((_("All"), 1.0), (_("None"), 0.0)):
            button = Gtk.Button(label=text, relief=Gtk.ReliefStyle.NONE)
            button.set_tooltip_text(_("Sets every class to {} %").format(round(100 * value)))
            button.connect("clicked", lambda _button, v=value: self.set_all_classes(v))
            title.pack_start(button, False, False, 0)
        box.pack_start(title, False, False, 0)
        self.class_list = Gtk.Grid(row_spacing=2, column_spacing=9, margin_start=12)
        scrolled = Gtk.ScrolledWindow(hscrollbar_policy=Gtk.PolicyType.NEVER, min_content_height=150, overlay_scrolling=False)
        scrolled.add(self.class_list)
        box.pack_start(scrolled, True, True, 0)
        self.controls.pack_start(box, True, True, 0)

    def output_part(self):
        box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=6)
        self.output = self.choice("output", "preview")
        self.output.fill([(None, _("New layer"), "new-layer"), (None, _("In place"), "in-place")], "new-layer")
        self.row(box, _("Out_put"), self.output, _("A new layer can be masked and mixed further; in place changes the layer itself"))
        self.controls.pack_start(box, False, False, 0)

    def model_part(self):
        self.expander = Gtk.Expander(label=_("Model and device"))
        box = Gtk.Box(orientation=Gtk.Orientation.VERTICAL, spacing=6, margin_top=6)
        self.expander.add(box)
        self.model_file = FileButton(_("Pick a model"), self.on_model_file, [(_("Models"), (), ("*.safetensors",))])
        clear = Gtk.Button.new_from_icon_name("edit-clear", Gtk.IconSize.BUTTON)
        clear.set_tooltip_text(_("The model inside ca2sis"))
        clear.connect("clicked", lambda _button: self.clear_model())
        line = self.row(box, _("Mo_del"), self.model_file, _("A model file; none: the model inside ca2sis"))
        line.pack_start(clear, False, False, 0)
        self.device = self.choice("device", "model")
        self.row(box, _("Dev_ice"), self.device, _("What computes"))
        self.expander.connect("notify::expanded", self.on_expander)
        self.controls.pack_start(self.expander, False, False, 0)

    def buttons(self):
        """Beside GIMP's. They are no responses: those would end the dialog."""
        actions = self.window.get_widget_for_response(Gtk.ResponseType.OK).get_parent()
        self.save_button = Gtk.Button(label=_("Sa_ve Style…"), use_underline=True)
        self.save_button.connect("clicked", lambda _button: self.save_style())
        help_button = Gtk.Button(label=_("_Help"), use_underline=True)
        help_button.connect("clicked", lambda _button: self.show_help())
        for button in (help_button, self.save_button):
            actions.pack_start(button, False, False, 0)
            actions.set_child_secondary(button, True)

    def show_rows(self):
        """Only what counts is there."""
        kind = self.reference_box.value()
        path = self.path("reference-file")
        by_file, style_file = kind == FILE, kind == FILE and (path or "").endswith(styles.ENDING)
        self.morph.widget.set_visible(self.config.get_property("target-labels") is not None)
        self.reference_file.set_visible(by_file)
        self.reference_labels_row.set_visible(kind is not None and not style_file and not isinstance(kind, styles.Remembered))
        self.reference_labels_file.set_visible(by_file and not style_file and self.reference_labels_box.value() == FILE)

    # ---- settings to widgets and back

    def path(self, name):
        file = self.config.get_property(name)
        return file.get_path() if file else None

    def recall(self):
        """Layers of the last time, which GIMP does not keep, and what is likely where there was none."""
        config = self.config
        if config.get_property("labels") is None:
            name = config.get_property("labels-name")
            item = self.image.get_layer_by_name(name) if name else None
            item = item or labels.find(self.image, self.model, but=[self.layer.get_id()])
            if item and item != self.layer:
                config.set_property("labels", item)
        name = config.get_property("target-labels-name")
        if config.get_property("target-labels") is None and name:
            config.set_property("target-labels", self.image.get_layer_by_name(name))
        self.remembered = None
        if config.get_property("reference") is None and not config.get_property("reference-file"):
            key = config.get_property("style-key")
            if key and os.path.exists(cache.path(key + styles.ENDING)):
                self.remembered = styles.Remembered(key)
            else:
                # Another open image, best one that has labels.
                found = [(layer, labels.find(other, self.model)) for other in Gimp.get_images() if other != self.image
                         for layer in other.get_layers() if not labels.could_be(layer, self.model)]
                found.sort(key=lambda pair: pair[1] is None)
                if found:
                    config.set_property("reference", found[0][0])
                    config.set_property("reference-labels", found[0][1])

    def load(self):
        """Shows the settings: at the start, and when GIMP's Reset or Load changed them."""
        self.quiet = True
        value = self.config.get_property
        can_label = bool(self.model and self.model.can_label())
        automatic = [("gimp-wilber", _("Automatic"), AUTOMATIC), (None, "", None)] if can_label else []
        likely = labels.could_be
        rows = layer_rows(self.image, but=[self.layer], likely=likely)
        self.labels_box.fill(automatic + rows, value("labels") or AUTOMATIC)
        self.target_box.fill([(None, _("As they are"), NONE), (None, "", None)] + rows, value("target-labels") or NONE)
        self.morph.set(value("morph"))
        rows = layer_rows(self.image, but=[self.layer], likely=lambda layer: not likely(layer))
        last = [("document-revert", _("The look of the last time"), self.remembered)] if self.remembered else []
        file_row = [("document-open", _("File…"), FILE)]
        chosen = value("reference") or (FILE if value("reference-file") else self.remembered or FILE)
        self.reference_box.fill(last + file_row + ([(None, "", None)] + rows if rows else []), chosen)
        self.reference_file.set(self.path("reference-file"))
        self.load_reference_labels()
        for name, slider in (("strength", self.strength), ("coupling", self.coupling)):
            slider.set(value(name))
        self.method.choose(value("method"))
        self.output.choose(value("output"))
        self.model_file.set(self.path("model"))
        self.load_devices()
        self.load_classes()
        self.show_rows()
        self.quiet = False

    def load_reference_labels(self):
        value = self.config.get_property
        can_label = bool(self.model and self.model.can_label())
        automatic = [("gimp-wilber", _("Automatic"), AUTOMATIC)]
        if self.reference_box.value() == FILE:
            text = _("In the file, or automatic") if can_label else _("In the file")
            self.reference_labels_box.fill([("gimp-wilber", text, AUTOMATIC), ("document-open", _("File…"), FILE)],
                                           FILE if value("reference-labels-file") or not can_label and not
                                           (self.path("reference-file") or "").endswith(".xcf") else AUTOMATIC)
            self.reference_labels_file.set(self.path("reference-labels-file"))
        else:
            reference = value("reference")
            rows = layer_rows(reference.get_image(), but=[reference], likely=labels.could_be) if reference else []
            self.reference_labels_box.fill((automatic + [(None, "", None)] if can_label else []) + rows,
                                           value("reference-labels") or AUTOMATIC)

    def load_devices(self):
        names = {"auto": _("Automatic"), "cpu": _("Processor"), "cuda": _("NVIDIA GPU"), "metal": _("Apple GPU")}
        self.device.fill([(None, text, name) for name, text in names.items()], self.config.get_property("device"))

    def load_classes(self):
        for child in self.class_list.get_children():
            self.class_list.remove(child)
        self.class_rows = {}
        if not self.model:
            return
        try:
            strengths = job.parse_classes(self.config.get_property("classes") or "", self.model)
        except Trouble:
            # Of another model.
            strengths = {}
            quiet, self.quiet = self.quiet, True
            self.config.set_property("classes", "")
            self.quiet = quiet
        for at, index in enumerate(self.present):
            each = self.model.classes[index]
            missing = self.style is not None and not self.style.has(index)
            slider = Slider(self.on_classes, _("{}: not in the reference").format(each.name) if missing else each.name)
            slider.set(0.0 if missing else strengths.get(index, 0.0) if strengths else 1.0)
            slider.widget.set_sensitive(not missing)
            self.class_list.attach(swatch(each.color), 0, at, 1, 1)
            self.class_list.attach(slider.widget, 1, at, 1, 1)
            if not missing:
                self.class_rows[index] = slider
        self.class_list.show_all()

    def set(self, name, value, then):
        """A widget has changed a setting."""
        if self.quiet:
            return
        self.quiet = True
        self.config.set_property(name, None if value in (AUTOMATIC, NONE) else value)
        self.quiet = False
        self.update(then)

    def on_classes(self):
        strengths = {index: slider.get() for index, slider in self.class_rows.items()}
        # All at 100 % is "all", also for a picture that has other classes.
        text = "" if all(v == 1.0 for v in strengths.values()) else job.write_classes(strengths, self.model)
        self.set("classes", text, "preview")

    def set_all_classes(self, value):
        for slider in self.class_rows.values():
            slider.set(value)
        self.on_classes()

    def on_reference(self):
        value = self.reference_box.value()
        layer = value if isinstance(value, Gimp.Item) else None
        self.quiet = True
        self.config.set_property("reference", layer)
        self.config.set_property("reference-labels", labels.find(layer.get_image(), self.model, but=[layer.get_id()]) if layer else None)
        if layer or isinstance(value, styles.Remembered):
            self.config.set_property("reference-file", None)
            self.config.set_property("reference-labels-file", None)
        self.load_reference_labels()
        self.quiet = False
        self.update("style")

    def on_reference_file(self):
        path = self.reference_file.path
        self.quiet = True
        self.config.set_property("reference-file", Gio.File.new_for_path(path))
        # A map named like its picture comes along.
        stem = os.path.splitext(path)[0]
        beside = [p for p in (stem + "_labels.png", stem + "-labels.png") if os.path.exists(p)]
        self.config.set_property("reference-labels-file", Gio.File.new_for_path(beside[0]) if beside else None)
        self.load_reference_labels()
        self.quiet = False
        self.update("style")

    def on_reference_labels(self):
        value = self.reference_labels_box.value()
        self.quiet = True
        if isinstance(value, Gimp.Item) or self.reference_box.value() != FILE:
            self.config.set_property("reference-labels", value if isinstance(value, Gimp.Item) else None)
        elif value == AUTOMATIC:
            self.config.set_property("reference-labels-file", None)
            self.reference_labels_file.set(None)
        self.quiet = False
        self.update("style")

    def on_reference_labels_file(self):
        self.set("reference-labels-file", Gio.File.new_for_path(self.reference_labels_file.path), "style")

    def clear_model(self):
        self.model_file.set(None)
        self.set("model", None, "model")

    def on_model_file(self):
        self.set("model", Gio.File.new_for_path(self.model_file.path), "model")

    def on_config(self, _config, _param):
        """Reset, or settings that were loaded."""
        if not self.quiet and not self.running:
            self.guess = True
            self.update("model")

    def on_expander(self, expander, _param):
        """What devices there are takes a moment to find out."""
        if not expander.get_expanded():
            return
        available = {0} | {kind for kind, _name, reason in self.library.devices() if reason is None}
        names = {"auto": _("Automatic"), "cpu": _("Processor"), "cuda": _("NVIDIA GPU"), "metal": _("Apple GPU")}
        kinds = {"auto": 0, "cpu": 1, "cuda": 2, "metal": 3}
        chosen = self.config.get_property("device")
        self.device.fill([(None, names[name], name) for name, kind in kinds.items() if kind in available or name == chosen], chosen)

    # ---- reading and previewing

    def update(self, what):
        """Reads "model", "labels" or "style" again, or nothing ("preview"), and makes a preview; soon, as a slider that moves asks for
        many."""
        self.stale.add(what)
        if self.pending is None:
            self.pending = GLib.timeout_add(30, self.on_update)

    def on_update(self):
        self.pending = None
        if self.running:
            return False
        stale, self.stale = self.stale, set()
        self.spinner.start()
        try:
            if "model" in stale or self.model is None:
                self.read_model()
            self.show_rows()
            if self.labels is None or stale & {"model", "labels"}:
                self.read_labels()
                self.load_classes()
            if self.style is None or stale & {"model", "style"}:
                self.read_style()
                self.load_classes()
            self.start_preview()
            self.window.set_response_sensitive(Gtk.ResponseType.OK, True)
        except Exception as error:
            # Whatever it interrupted: the dialog listens again.
            self.quiet = False
            self.spinner.stop()
            self.preview.show_after(None)
            self.say(sentence(error), "dialog-warning")
            self.window.set_response_sensitive(Gtk.ResponseType.OK, False)
        self.save_button.set_sensitive(self.style is not None)
        return False

    def settings(self):
        return job.Settings(self.config)

    def read_model(self):
        key = self.path("model"), self.config.get_property("device")
        if key != self.model_key or self.model is None:
            self.model = None
            self.labels = self.style = None
            # Numbers of its classes.
            self.present = []
            self.model = self.library.open_model(*key)
            self.model_key = key
        if self.guess:
            # Once more now that the classes are known: of a group whose layers are named after them.
            self.guess = False
            self.quiet = True
            self.recall()
            self.quiet = False
        self.load()

    def read_labels(self):
        self.labels = None
        self.show_original()
        settings = self.settings()
        self.labels, self.target = job.read_labels(self.layer, settings, self.model)
        scale = min(1.0, 2000 / max(self.labels.size))
        size = [max(1, round(side * scale)) for side in self.labels.size]
        sample = self.labels.scaled(scale, size) if scale < 1.0 else self.labels
        sample.check(self.model, settings.labels.get_name() if settings.labels else self.layer.get_name())
        self.present = sample.present(self.model)
        if self.target:
            sample = self.target.scaled(scale, size) if scale < 1.0 else self.target
            sample.check(self.model, settings.target_labels.get_name())
            self.present = sorted(set(self.present) | set(sample.present(self.model)))
        self.fit()

    def show_original(self):
        """The photograph at the size of the window."""
        area = self.preview.get_allocation()
        width, height = self.layer.get_width(), self.layer.get_height()
        self.scale = min(1.0, max(area.width, 1) / width, max(area.height, 1) / height)
        size = max(1, round(width * self.scale)), max(1, round(height * self.scale))
        if self.size_read != size:
            self.size_read = size
            self.content = pixels.get(self.layer.get_buffer(), 0, 0, *size, "R'G'B'A u8", self.scale)
            self.mask = pixels.Mask(self.layer).read(self.scale, size)
            self.preview.show_before(self.content)

    def fit(self):
        """The maps at the size of the preview."""
        self.small_labels = self.labels.scaled(self.scale, self.size_read)
        self.small_target = self.target and self.target.scaled(self.scale, self.size_read)

    def read_style(self):
        self.style = None
        kind = self.reference_box.value()
        if kind == FILE and not self.path("reference-file"):
            raise Trouble(_("Pick the picture whose look is wanted, or a saved style."))
        path = self.path("reference-file")
        if kind == FILE and self.reference_labels_box.value() == FILE and not self.path("reference-labels-file") and not \
                path.endswith(styles.ENDING):
            raise Trouble(_("Pick the label map of the reference."))
        self.style_source = kind if isinstance(kind, styles.Remembered) else self.settings().source()
        self.style = self.style_source.style(self.model)

    def start_preview(self):
        settings = self.settings()
        if settings.target_labels and settings.morph > 0 and settings.method == "statistics":
            job.read_labels(self.layer, settings, self.model)
        given = {"strength": settings.strength, "coupling": settings.coupling, "morph": settings.morph, "method": settings.method,
                 "classes": settings.strengths(self.model)}
        self.worker.put(Task(self.model, self.content, self.small_labels, self.small_target, self.mask, self.style, given))

    def on_preview(self, task, picture, report, trouble):
        if self.running or task.content is not self.content:
            return False
        if self.worker.task is None:
            self.spinner.stop()
        if trouble:
            self.say(trouble, "dialog-warning")
            return False
        self.preview.show_after(picture)
        told = self.advice(report)
        self.say(told, "dialog-information" if told else None)
        return False

    def advice(self, report):
        """What to know of a result, in a sentence or two."""
        def named(note):
            return listed(c.name for c in self.model.classes if report.notes[c.index] & note)

        told = []
        missing, doubtful = named(library.NOTE_MISSING), named(library.NOTE_DOUBTFUL)
        if missing:
            told.append(_("The reference shows no {}: it keeps its own look.").format(missing))
        if report.doubtful:
            told.append(_("The model does not know pictures like this one, or like the reference, well. Look closely, or try Colour statistics."))
        elif doubtful:
            told.append(_("The model is not sure of {}: look closely there.").format(doubtful))
        if self.config.get_property("labels") is None:
            told.append(_("CA2-SIS Label this Layer shows the labels that were found, to be corrected."))
        return " ".join(told)

    def on_resize(self, _widget, _area):
        if self.size_read is None or self.labels is None:
            return
        before = self.size_read
        self.show_original()
        if self.size_read != before:
            self.fit()
            self.update("preview")

    def say(self, text, icon=None):
        self.note.set_text(text)
        if icon:
            self.note_icon.set_from_icon_name(icon, Gtk.IconSize.BUTTON)
        self.note_icon.set_visible(bool(icon and text))

    # ---- working

    def on_key(self, _window, event):
        """F1 is the help's, before GIMP looks for a page of its own manual, which has none of this."""
        if event.keyval != Gdk.KEY_F1:
            return False
        self.show_help()
        return True

    def on_response(self, _window, response):
        if response == Gtk.ResponseType.CANCEL:
            self.stop()

    def stop(self, *_event):
        """Stops the work, if there is any; the window stays for another try."""
        if self.running:
            self.cancelled = True
            self.bar.set_text(_("Stopping"))
        return self.running

    def run(self):
        self.handler = self.config.connect("notify", self.on_config)
        while True:
            if not self.window.run():
                raise Cancelled()
            try:
                return self.work()
            except Cancelled:
                self.say(_("Stopped. Nothing has been changed."), "dialog-information")
            except Exception as error:
                self.quiet = False
                self.say(sentence(error), "dialog-error")
            finally:
                self.set_running(False)

    def set_running(self, running):
        self.running = running
        self.controls.set_sensitive(not running)
        self.save_button.set_sensitive(not running)
        self.window.set_response_sensitive(Gtk.ResponseType.OK, not running)
        self.bar.set_visible(running)
        if running:
            self.cancelled = False
            self.bar.set_text(None)
            self.bar.set_fraction(0.0)

    def work(self):
        """The whole picture, with a progress bar; GIMP's buttons wait."""
        self.set_running(True)
        self.say("")
        settings = self.settings()
        work = job.Job(self.image, self.layer, settings, self.library, self.model, self.style)
        # Read again when they are needed again: a large picture's maps are large.
        self.labels = self.target = None
        work.gather()
        loop = GLib.MainLoop()
        state = {"done": 0.0, "error": None}

        def compute():
            try:
                work.run(progress)
            except BaseException as error:
                state["error"] = error
            GLib.idle_add(loop.quit)

        def progress(done):
            state["done"] = done
            return not self.cancelled

        def tick():
            self.bar.set_fraction(state["done"])
            return True

        timer = GLib.timeout_add(50, tick)
        threading.Thread(target=compute, daemon=True).start()
        loop.run()
        GLib.source_remove(timer)
        if state["error"] is not None:
            raise state["error"]
        if self.cancelled:
            raise Cancelled()
        work.check_report(by_name=False)
        work.finish(show=True)
        if isinstance(self.style_source, styles.Remembered):
            self.style_source.key = self.config.get_property("style-key")
        self.quiet = True
        settings.remember(self.config, self.style_source)
        Gimp.displays_flush()
        if work.notes():
            Gimp.message(work.notes())

    def save_style(self):
        chooser = Gtk.FileChooserDialog(title=_("Save Style"), transient_for=self.window, action=Gtk.FileChooserAction.SAVE,
                                        do_overwrite_confirmation=True)
        chooser.add_buttons(_("_Cancel"), Gtk.ResponseType.CANCEL, _("_Save"), Gtk.ResponseType.OK)
        chooser.set_default_response(Gtk.ResponseType.OK)
        chooser.set_current_name(_("look") + styles.ENDING)
        if chooser.run() == Gtk.ResponseType.OK:
            path = chooser.get_filename()
            path = path if path.endswith(styles.ENDING) else path + styles.ENDING
            # The chooser has asked about the name that was typed, which may have lacked the ending.
            if path == chooser.get_filename() or not os.path.exists(path) or self.may_replace(chooser, path):
                self.save_style_as(path)
        chooser.destroy()

    def may_replace(self, parent, path):
        question = Gtk.MessageDialog(transient_for=parent, modal=True, message_type=Gtk.MessageType.QUESTION,
                                     buttons=Gtk.ButtonsType.OK_CANCEL, text=_("{} is there already. Replace it?").format(path))
        answer = question.run()
        question.destroy()
        return answer == Gtk.ResponseType.OK

    def save_style_as(self, path):
        try:
            self.style.save(path)
            self.say(_("Saved as {}. To use it, choose File… under Reference.").format(path), "dialog-information")
        except Trouble as trouble:
            self.say(str(trouble), "dialog-error")

    def show_help(self):
        page = help_page()
        try:
            Gio.AppInfo.launch_default_for_uri(GLib.filename_to_uri(page, None), None)
        except GLib.Error:
            self.say(_("No browser could be started. The help is in {}.").format(page), "dialog-information")

    def close(self):
        self.quiet = True
        if self.pending is not None:
            GLib.source_remove(self.pending)
        if hasattr(self, "worker"):
            self.worker.stop()
        self.window.destroy()


def help_page():
    """The help in the user's language, else in English."""
    for language in GLib.get_language_names():
        page = os.path.join(job.FOLDER, "help", language, "index.html")
        if os.path.exists(page):
            return page
    return os.path.join(job.FOLDER, "help", "en", "index.html")
