# SPDX-License-Identifier: MIT OR Apache-2.0
"""The parts that the dialog is made of."""

import os

import gi

gi.require_version("Gtk", "3.0")
gi.require_version("GimpUi", "3.0")
from gi.repository import GdkPixbuf, Gimp, GimpUi, Gtk  # noqa: E402

from messages import _  # noqa: E402

# What a combo box's row stands for, beside a layer.
AUTOMATIC, NONE, FILE = "automatic", "none", "file"


class Choice(Gtk.ComboBox):
    """A box of layers and other sources: each row an icon, a text, and what it stands for."""

    def __init__(self, changed):
        self.rows = []
        self.store = Gtk.ListStore(str, str)
        super().__init__(model=self.store)
        self.set_row_separator_func(lambda model, row: model[row][1] == "")
        icon = Gtk.CellRendererPixbuf()
        self.pack_start(icon, False)
        self.add_attribute(icon, "icon-name", 0)
        text = Gtk.CellRendererText(ellipsize=3, width_chars=8)
        self.pack_start(text, True)
        self.add_attribute(text, "text", 1)
        self.quiet = False
        self.connect("changed", lambda _box: self.quiet or changed())

    def fill(self, rows, chosen):
        """`rows` are (icon, text, value); a text of "" is a line."""
        self.quiet = True
        self.store.clear()
        self.rows = [value for _icon, _text, value in rows]
        for icon, text, _value in rows:
            self.store.append([icon, text])
        self.quiet = False
        self.choose(chosen)

    def choose(self, value):
        self.quiet = True
        self.set_active(self.rows.index(value) if value in self.rows else -1)
        self.quiet = False

    def value(self):
        at = self.get_active()
        return self.rows[at] if at >= 0 else None


def layer_rows(image, but=(), likely=None):
    """Rows for the layers of an image, then of the others: those that look like what is wanted first."""
    rows = []
    others = [other for other in Gimp.get_images() if other != image]
    for each in [image] + others:
        own = each == image
        found = []

        def collect(layers):
            for layer in layers:
                if layer not in but:
                    name = layer.get_name() if own else f"{each.get_name()} › {layer.get_name()}"
                    found.append(("folder" if layer.is_group() else "gimp-layer", name, layer))
                if layer.is_group():
                    collect(layer.get_children())
        collect(each.get_layers())
        if likely:
            found.sort(key=lambda row: not likely(row[2]))
        if found and rows:
            rows.append((None, "", None))
        rows += found
    return rows


class Slider:
    """A share from 0 to 100 %, as a slider of GIMP's own kind with its name inside."""

    def __init__(self, changed, name):
        adjustment = Gtk.Adjustment(lower=0, upper=100, step_increment=1, page_increment=10)
        self.widget = GimpUi.SpinScale.new(adjustment, name, 0)
        self.widget.set_hexpand(True)
        self.adjustment, self.quiet = adjustment, False
        adjustment.connect("value-changed", lambda _a: self.quiet or changed())

    def get(self):
        return self.adjustment.get_value() / 100

    def set(self, value):
        self.quiet = True
        self.adjustment.set_value(round(100 * value, 2))
        self.quiet = False


class FileButton(Gtk.Button):
    """Shows a file's name and lets another be picked. GTK's own builds its whole file chooser before anybody asks for it."""

    def __init__(self, title, changed, patterns):
        super().__init__()
        self.title, self.changed, self.patterns, self.path = title, changed, patterns, None
        self.label = Gtk.Label(xalign=0, ellipsize=2, width_chars=8, max_width_chars=12)
        line = Gtk.Box(spacing=6)
        line.pack_start(self.label, True, True, 0)
        line.pack_start(Gtk.Image.new_from_icon_name("document-open", Gtk.IconSize.BUTTON), False, False, 0)
        self.add(line)
        self.get_accessible().set_name(title)
        self.connect("clicked", self.on_clicked)
        self.set(None)

    def set(self, path):
        self.path = path
        self.label.set_text(os.path.basename(path) if path else _("(none)"))
        self.set_tooltip_text(path or self.title)

    def on_clicked(self, _button):
        chooser = Gtk.FileChooserDialog(title=self.title, transient_for=self.get_toplevel(), action=Gtk.FileChooserAction.OPEN)
        chooser.add_buttons(_("_Cancel"), Gtk.ResponseType.CANCEL, _("_Open"), Gtk.ResponseType.OK)
        chooser.set_default_response(Gtk.ResponseType.OK)
        for name, mime, patterns in self.patterns + [(_("All files"), (), ("*",))]:
            filter = Gtk.FileFilter()
            filter.set_name(name)
            for each in mime:
                filter.add_mime_type(each)
            for each in patterns:
                filter.add_pattern(each)
            chooser.add_filter(filter)
        if self.path:
            chooser.set_filename(self.path)
        if chooser.run() == Gtk.ResponseType.OK:
            self.set(chooser.get_filename())
            chooser.destroy()
            self.changed()
        else:
            chooser.destroy()


def swatch(color):
    """A class's colour."""
    square = GdkPixbuf.Pixbuf.new(GdkPixbuf.Colorspace.RGB, False, 8, 18, 18)
    square.fill(0x00000000)
    square.new_subpixbuf(1, 1, 16, 16).fill(int.from_bytes(bytes(color) + b"\xff", "big"))
    return Gtk.Image.new_from_pixbuf(square)
