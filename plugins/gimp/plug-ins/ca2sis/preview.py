# SPDX-License-Identifier: MIT OR Apache-2.0
"""The preview of the dialog: the job at the size of the window, computed beside the user's work."""

import threading

import gi

gi.require_version("Gdk", "3.0")
gi.require_version("Gtk", "3.0")
from gi.repository import Gdk, GdkPixbuf, GLib, Gtk  # noqa: E402

import library  # noqa: E402
import pixels  # noqa: E402
import styles  # noqa: E402
from messages import Cancelled, _, sentence  # noqa: E402

LEAST = 420, 320


class Task:
    """Everything the library needs for one preview."""

    def __init__(self, model, content, labels, target, mask, style, settings):
        self.model, self.content, self.labels, self.target, self.mask = model, content, labels, target, mask
        self.style, self.settings = style, settings


class Worker:
    """Works on the newest task; an older one is stopped."""

    def __init__(self, done):
        self.done = done
        self.condition = threading.Condition()
        self.task, self.stopped = None, False
        self.own = None
        self.thread = threading.Thread(target=self.work, daemon=True)
        self.thread.start()

    def put(self, task):
        with self.condition:
            self.task = task
            self.condition.notify()

    def stop(self):
        with self.condition:
            self.stopped = True
            self.condition.notify()
        self.thread.join()

    def work(self):
        while True:
            with self.condition:
                while self.task is None and not self.stopped:
                    self.condition.wait()
                if self.stopped:
                    return
                task, self.task = self.task, None
            settings, size = task.settings, (task.content.width, task.content.height)
            out = report = trouble = None
            try:
                out = library.Pixels(pixels.memory(4 * size[0] * size[1]), *size, library.RGBA_U8)
                own = self.own_style(task) if settings["method"] == "network" else None
                report = task.model.restyle(
                    task.content, task.labels.view(), task.style, output=out, target=task.target and task.target.view(),
                    mask=task.mask, classes=settings["classes"], strength=settings["strength"], coupling=settings["coupling"],
                    morph=settings["morph"], method=settings["method"], confidence=settings["method"] == "network",
                    own=own and own.kept, progress=lambda done: self.task is None and not self.stopped)
                if own:
                    own.save(report)
            except Cancelled:
                continue
            except Exception as error:
                # Of any kind: without this thread there would be no preview any more.
                trouble = sentence(error)
            GLib.idle_add(self.done, task, out, report, trouble)

    def own_style(self, task):
        """The photograph's own style as the last preview left it, if it can be the same one still."""
        of = task.model, task.content, task.labels, task.target, task.mask
        if self.own is None or any(a is not b for a, b in zip(of, self.own_of)):
            self.own, self.own_of = styles.Own(*of, task.settings), of
        return self.own


class Preview(Gtk.Layout):
    """Shows the result, and the original left of a line that can be moved, or while the button is held down.

    By pixbufs alone: drawing with cairo takes a Python package that not every GIMP comes with."""

    def __init__(self):
        super().__init__()
        self.set_size_request(*LEAST)
        self.before = self.after = None
        self.scaled = {}
        self.split, self.split_at, self.held = False, 0.5, False
        self.image = Gtk.Image()
        self.put(self.image, 0, 0)
        self.add_events(Gdk.EventMask.BUTTON_PRESS_MASK | Gdk.EventMask.BUTTON_RELEASE_MASK | Gdk.EventMask.BUTTON1_MOTION_MASK)
        self.connect("size-allocate", lambda _widget, _area: self.draw())
        self.connect("button-press-event", self.on_press)
        self.connect("button-release-event", self.on_release)
        self.connect("motion-notify-event", self.on_motion)
        self.get_accessible().set_name(_("Preview"))

    def show_before(self, picture):
        self.before, self.after = pixbuf(picture), None
        self.draw()

    def show_after(self, picture):
        self.after = picture and pixbuf(picture)
        self.draw()

    def set_split(self, split):
        self.split = split
        self.draw()

    def place(self):
        """Where the picture is: x, y, width and height."""
        area, picture = self.get_allocation(), self.before
        scale = min(area.width / picture.get_width(), area.height / picture.get_height())
        width, height = max(1, round(scale * picture.get_width())), max(1, round(scale * picture.get_height()))
        return (area.width - width) // 2, (area.height - height) // 2, width, height

    def at(self, picture, width, height):
        """A picture at the size shown, on checks where it is transparent; kept, as a line that is moved asks for it again."""
        key = id(picture), width, height
        if key not in self.scaled:
            self.scaled = {k: v for k, v in self.scaled.items() if k[0] in (id(self.before), id(self.after)) and k[1:] == key[1:]}
            copy = picture.composite_color_simple(width, height, GdkPixbuf.InterpType.BILINEAR, 255, 8, 0x999999, 0x666666)
            # With the picture itself: while it is kept, no other has its id.
            self.scaled[key] = picture, copy
        return self.scaled[key][1]

    def draw(self):
        if self.before is None:
            return
        x, y, width, height = self.place()
        shown = self.at(self.before if self.held or self.after is None else self.after, width, height)
        if self.split and self.after is not None and not self.held:
            shown = shown.copy()
            line = min(width - 1, max(1, round(self.split_at * width)))
            self.at(self.before, width, height).copy_area(0, 0, line, height, shown, 0, 0)
            shown.new_subpixbuf(line - 1, 0, 1, height).fill(0xffffffff)
            shown.new_subpixbuf(line, 0, 1, height).fill(0x000000ff)
        self.image.set_from_pixbuf(shown)
        self.move(self.image, x, y)

    def on_press(self, _widget, event):
        if self.split:
            return self.on_motion(None, event)
        self.held = True
        self.draw()
        return True

    def on_release(self, _widget, _event):
        self.held = False
        self.draw()
        return True

    def on_motion(self, _widget, event):
        if self.split and self.before is not None:
            x, _y, width, _height = self.place()
            self.split_at = min(1.0, max(0.0, (event.x - x) / width))
            self.draw()
        return True


def pixbuf(picture):
    size = 4 * picture.width * picture.height
    return GdkPixbuf.Pixbuf.new_from_bytes(GLib.Bytes.new(picture.data[:size]), GdkPixbuf.Colorspace.RGB, True, 8, picture.width,
                                           picture.height, 4 * picture.width)
