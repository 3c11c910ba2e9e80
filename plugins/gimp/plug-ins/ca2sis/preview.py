# SPDX-License-Identifier: MIT OR Apache-2.0
"""The preview of the dialog: the job at the size of the window, computed beside the user's work."""

import threading

import gi

gi.require_version("Gdk", "3.0")
gi.require_version("Gtk", "3.0")
from gi.repository import Gdk, GdkPixbuf, GLib, Gtk  # noqa: E402

import library  # noqa: E402
import pixels  # noqa: E402
from messages import Cancelled, Trouble, _  # noqa: E402

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
            out, settings = library.Pixels(pixels.memory(4 * task.content.width * task.content.height), task.content.width,
                                           task.content.height, library.RGBA_U8), task.settings
            report = trouble = None
            try:
                report = task.model.restyle(
                    task.content, task.labels.view(), task.style, output=out, target=task.target and task.target.view(),
                    mask=task.mask, classes=settings["classes"], strength=settings["strength"], coupling=settings["coupling"],
                    morph=settings["morph"], method=settings["method"], confidence=settings["method"] == "network",
                    progress=lambda done: self.task is None and not self.stopped)
            except Cancelled:
                continue
            except Trouble as error:
                trouble = str(error)
            GLib.idle_add(self.done, task, out, report, trouble)


class Preview(Gtk.DrawingArea):
    """Shows the result, and the original left of a line that can be moved, or while the button is held down."""

    def __init__(self):
        super().__init__()
        self.set_size_request(*LEAST)
        self.before = self.after = None
        self.split, self.split_at, self.held = False, 0.5, False
        self.add_events(Gdk.EventMask.BUTTON_PRESS_MASK | Gdk.EventMask.BUTTON_RELEASE_MASK | Gdk.EventMask.BUTTON1_MOTION_MASK)
        self.connect("draw", self.on_draw)
        self.connect("button-press-event", self.on_press)
        self.connect("button-release-event", self.on_release)
        self.connect("motion-notify-event", self.on_motion)
        self.get_accessible().set_name(_("Preview"))

    def show_before(self, picture):
        self.before = pixbuf(picture)
        self.after = None
        self.queue_draw()

    def show_after(self, picture):
        self.after = pixbuf(picture)
        self.queue_draw()

    def set_split(self, split):
        self.split = split
        self.queue_draw()

    def place(self):
        """Where the picture is drawn: x, y and the scale of its pixels."""
        width, height = self.get_allocated_width(), self.get_allocated_height()
        scale = min(width / self.before.get_width(), height / self.before.get_height())
        return (width - scale * self.before.get_width()) / 2, (height - scale * self.before.get_height()) / 2, scale

    def on_draw(self, _widget, context):
        if self.before is None:
            return False
        x, y, scale = self.place()
        width, height = scale * self.before.get_width(), scale * self.before.get_height()
        context.rectangle(x, y, width, height)
        context.clip()
        checks(context, x, y, width, height)
        shown = self.before if self.held or self.after is None else self.after
        paint(context, shown, x, y, scale)
        if self.split and self.after is not None and not self.held:
            line = x + self.split_at * width
            context.save()
            context.rectangle(x, y, line - x, height)
            context.clip()
            checks(context, x, y, width, height)
            paint(context, self.before, x, y, scale)
            context.restore()
            for color, thick in ((0.0, 3.0), (1.0, 1.0)):
                context.set_source_rgb(color, color, color)
                context.set_line_width(thick)
                context.move_to(line, y)
                context.line_to(line, y + height)
                context.stroke()
        return False

    def on_press(self, _widget, event):
        if self.split:
            return self.on_motion(None, event)
        self.held = True
        self.queue_draw()
        return True

    def on_release(self, _widget, _event):
        self.held = False
        self.queue_draw()
        return True

    def on_motion(self, _widget, event):
        if self.split and self.before is not None:
            x, _y, scale = self.place()
            self.split_at = min(1.0, max(0.0, (event.x - x) / (scale * self.before.get_width())))
            self.queue_draw()
        return True


def pixbuf(picture):
    size = 4 * picture.width * picture.height
    return GdkPixbuf.Pixbuf.new_from_bytes(GLib.Bytes.new(picture.data[:size]), GdkPixbuf.Colorspace.RGB, True, 8, picture.width,
                                           picture.height, 4 * picture.width)


def paint(context, picture, x, y, scale):
    context.save()
    context.translate(x, y)
    context.scale(scale, scale)
    Gdk.cairo_set_source_pixbuf(context, picture, 0, 0)
    context.paint()
    context.restore()


def checks(context, x, y, width, height):
    """What is transparent shows a board, as in GIMP."""
    context.set_source_rgb(0.6, 0.6, 0.6)
    context.rectangle(x, y, width, height)
    context.fill()
    context.set_source_rgb(0.4, 0.4, 0.4)
    side = 8
    for row in range(int(height) // side + 1):
        for column in range(row % 2, int(width) // side + 1, 2):
            context.rectangle(x + column * side, y + row * side, side, side)
    context.fill()
