# SPDX-License-Identifier: MIT OR Apache-2.0
"""The library through its C API, include/ca2sis.h, by ctypes. Knows nothing of GIMP."""

import ctypes
import os
import sys
from ctypes import POINTER, Structure, byref, c_char, c_char_p, c_float, c_int32, c_int64, c_size_t
from ctypes import c_ubyte, c_uint8, c_uint32, c_uint64, c_void_p

from messages import Cancelled, Trouble, _
from said import translated

ABI_VERSION = 0

OK, CANCELLED = 0, 7
CONTINUE, CANCEL = 0, 1
GRAY_U8, RGBA_U8, GRAY_F32, GRAY_ALPHA_F32, RGBA_F32 = 17, 20, 65, 66, 68
LABEL_U8, LABEL_U16, LABEL_RGB_U8 = 1, 2, 4
RESTYLE_STRENGTH, RESTYLE_MORPH = 1, 2
NOTE_MISSING, NOTE_ABSENT, NOTE_UNSEEN, NOTE_DOUBTFUL = 1, 2, 4, 8
METHODS = {"network": 0, "statistics": 1}
DEVICES = {"auto": 0, "cpu": 1, "cuda": 2, "metal": 3}
PRECISION_AUTO = 4

PROGRESS = ctypes.CFUNCTYPE(c_int32, c_void_p, c_float)


class Sized(Structure):
    """An options or info struct, which begins with its own size."""

    def __init__(self, **values):
        super().__init__(struct_size=ctypes.sizeof(self), **values)


class DeviceInfo(Sized):
    _fields_ = [("struct_size", c_size_t), ("device", c_uint32), ("number", c_uint32), ("memory", c_uint64),
                ("name", c_char_p), ("unavailable", c_char_p)]


class ContextOptions(Sized):
    _fields_ = [("struct_size", c_size_t), ("device", c_uint32), ("device_number", c_uint32), ("threads", c_uint32),
                ("log_level", c_uint32), ("memory_limit", c_uint64), ("log", c_void_p), ("log_data", c_void_p),
                ("precision", c_uint32), ("reserved", c_uint32)]


class ModelInfo(Sized):
    _fields_ = [("struct_size", c_size_t), ("name", c_char_p), ("version", c_char_p), ("licence", c_char_p),
                ("class_count", c_uint32), ("resolution", c_uint32), ("style_width", c_uint32),
                ("stage_count", c_uint32), ("noise_width", c_uint32), ("has_labeler", c_uint32)]


class ClassInfo(Sized):
    _fields_ = [("struct_size", c_size_t), ("name", c_char_p), ("groups", POINTER(c_char_p)),
                ("group_count", c_uint32), ("color", c_uint8 * 4)]


class ImageView(Structure):
    _fields_ = [("data", c_void_p), ("width", c_uint32), ("height", c_uint32), ("format", c_uint32),
                ("transfer", c_uint32), ("row_stride", c_int64), ("pixel_stride", c_int64)]


class LabelView(Structure):
    _fields_ = [("data", c_void_p), ("width", c_uint32), ("height", c_uint32), ("format", c_uint32),
                ("reserved", c_uint32), ("row_stride", c_int64), ("pixel_stride", c_int64)]


class ExtractOptions(Sized):
    _fields_ = [("struct_size", c_size_t), ("progress", PROGRESS), ("progress_data", c_void_p)]


class LabelOptions(Sized):
    _fields_ = [("struct_size", c_size_t), ("progress", PROGRESS), ("progress_data", c_void_p)]


class LabelReport(Sized):
    _fields_ = [("struct_size", c_size_t), ("confidence", c_float), ("reserved", c_uint32)]


class ClassStrength(Structure):
    _fields_ = [("index", c_uint32), ("strength", c_float)]


class RestyleOptions(Sized):
    _fields_ = [("struct_size", c_size_t), ("fields", c_uint64), ("target_labels", POINTER(LabelView)),
                ("mask", POINTER(ImageView)), ("classes", POINTER(ClassStrength)), ("class_count", c_size_t),
                ("strength", c_float), ("coupling", c_float), ("morph", c_float), ("method", c_uint32),
                ("confidence", c_uint32), ("reserved", c_uint32), ("confidence_map", POINTER(ImageView)),
                ("progress", PROGRESS), ("progress_data", c_void_p), ("content_style", POINTER(c_void_p))]


class RestyleReport(Sized):
    _fields_ = [("struct_size", c_size_t), ("missing_count", c_uint32), ("absent_count", c_uint32),
                ("unseen_count", c_uint32), ("doubtful_count", c_uint32), ("doubtful", c_uint32), ("window_side", c_uint32),
                ("window_x", c_int64), ("window_y", c_int64), ("untouched_pixels", c_uint64), ("untouched_differing", c_uint64),
                ("confidence", c_float), ("reserved", c_uint32), ("class_confidence", c_float * 256), ("notes", c_uint8 * 256),
                ("advice", c_char * 1024), ("content_style_used", c_uint32), ("reserved_too", c_uint32)]


FUNCTIONS = {
    "ca2_version": (c_char_p, []),
    "ca2_abi_version": (c_uint32, []),
    "ca2_last_error": (c_char_p, []),
    "ca2_device_count": (c_int32, [POINTER(c_size_t)]),
    "ca2_device_get": (c_int32, [c_size_t, POINTER(DeviceInfo)]),
    "ca2_context_create": (c_int32, [POINTER(ContextOptions), POINTER(c_void_p)]),
    "ca2_context_release": (None, [c_void_p]),
    "ca2_model_open": (c_int32, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "ca2_model_open_default": (c_int32, [c_void_p, POINTER(c_void_p)]),
    "ca2_model_get_info": (c_int32, [c_void_p, POINTER(ModelInfo)]),
    "ca2_model_get_class": (c_int32, [c_void_p, c_uint32, POINTER(ClassInfo)]),
    "ca2_model_fingerprint": (c_int32, [c_void_p, POINTER(c_char_p)]),
    "ca2_model_release": (None, [c_void_p]),
    "ca2_style_extract": (c_int32, [c_void_p, POINTER(ImageView), POINTER(LabelView), POINTER(ExtractOptions),
                                    POINTER(c_void_p)]),
    "ca2_style_has_class": (c_int32, [c_void_p, c_uint32, POINTER(c_uint32)]),
    "ca2_style_save": (c_int32, [c_void_p, c_char_p]),
    "ca2_style_open": (c_int32, [c_void_p, c_char_p, POINTER(c_void_p)]),
    "ca2_style_release": (None, [c_void_p]),
    "ca2_restyle": (c_int32, [c_void_p, POINTER(ImageView), POINTER(LabelView), c_void_p, POINTER(RestyleOptions),
                              POINTER(ImageView), POINTER(RestyleReport)]),
}

# What an older library may lack: the plug-in then does without.
OPTIONAL = {
    "ca2_label": (c_int32, [c_void_p, POINTER(ImageView), POINTER(LabelOptions), POINTER(LabelView), POINTER(LabelReport)]),
}


class Pixels:
    """Pixels in memory of our own, rows from the top without gaps. `format` is a CA2_PIXEL_* or CA2_LABEL_* code."""

    def __init__(self, data, width, height, format, linear=False):
        self.data, self.width, self.height, self.format, self.linear = data, width, height, format, linear

    def address(self):
        return ctypes.addressof(c_ubyte.from_buffer(self.data))

    def image(self):
        return ImageView(self.address(), self.width, self.height, self.format, int(self.linear), 0, 0)

    def labels(self, pixel_stride=0):
        return LabelView(self.address(), self.width, self.height, self.format, 0, 0, pixel_stride)


def told(progress):
    """A function of a number from 0 to 1 that says whether to go on, as the callback of the C API; None: none."""
    if progress is None:
        return PROGRESS()

    def call(_data, done):
        try:
            return CONTINUE if progress(done) else CANCEL
        except Exception:
            return CANCEL

    return PROGRESS(call)


class Library:
    """libca2sis, loaded by its absolute path and checked."""

    def __init__(self, folder):
        name = {"win32": "ca2sis.dll", "darwin": "libca2sis.dylib"}.get(sys.platform, "libca2sis.so")
        path = os.path.join(folder, name)
        again = _("Install the plug-in again with plugins/gimp/install.")
        if not os.path.exists(path):
            raise Trouble(_("The ca2sis library is missing: there is no {}.").format(path) + " " + again)
        try:
            if sys.platform == "win32":
                os.add_dll_directory(folder)
            self._library = ctypes.CDLL(path)
        except OSError as error:
            raise Trouble(_("The ca2sis library cannot be loaded: {}.").format(translated(str(error))) + " " + again) from None
        found = self._library.ca2_abi_version() if hasattr(self._library, "ca2_abi_version") else _("unknown")
        if found != ABI_VERSION:
            raise Trouble(_("{} is of another version than this plug-in: it has interface {}, the plug-in needs {}.").format(
                path, found, ABI_VERSION) + " " + again)
        missing = [name for name in FUNCTIONS if not hasattr(self._library, name)]
        if missing:
            raise Trouble(_("{} is of another version than this plug-in: it lacks {}.").format(path, missing[0]) + " " + again)
        for name, (result, arguments) in (FUNCTIONS | OPTIONAL).items():
            function = getattr(self._library, name, None)
            if function:
                function.restype, function.argtypes = result, arguments
            setattr(self, name[len("ca2_"):], function)
        self.version_text = self.version().decode()

    def check(self, status):
        if status == CANCELLED:
            raise Cancelled()
        if status != OK:
            raise Trouble(_("{}.").format(translated(self.last_error().decode("utf-8", "replace"))))

    def devices(self):
        """Name and reason of every device: (kind code, name, why it cannot be used or None)."""
        count = c_size_t()
        self.check(self.device_count(byref(count)))
        for index in range(count.value):
            info = DeviceInfo()
            self.check(self.device_get(index, byref(info)))
            reason = info.unavailable
            yield info.device, info.name.decode(), reason and reason.decode()

    def open_model(self, path, device):
        """The model of a file, or the one inside the library, on a device ("auto", "cpu", "cuda", "metal")."""
        return Model(self, path, device)


class Class:
    def __init__(self, index, name, color):
        self.index, self.name, self.color = index, name, color


class Model:
    def __init__(self, library, path, device):
        self.library = library
        self.path = path
        context, handle = c_void_p(), c_void_p()
        try:
            library.check(library.context_create(byref(ContextOptions(device=DEVICES[device], precision=PRECISION_AUTO)), byref(context)))
        except Trouble as trouble:
            raise Trouble(_("This device cannot be used: {} Choose another under Device.").format(trouble)) from None
        try:
            if path is None:
                library.check(library.model_open_default(context, byref(handle)))
            else:
                if not os.path.exists(path):
                    raise Trouble(_("There is no model {}. Choose another file under Model, or none for the model "
                                    "inside ca2sis.").format(path))
                library.check(library.model_open(context, os.fsencode(path), byref(handle)))
        finally:
            library.context_release(context)
        self.handle = handle
        info = ModelInfo()
        library.check(library.model_get_info(handle, byref(info)))
        self.name = info.name.decode()
        self.has_labeler = info.has_labeler == 1
        self.classes = []
        for index in range(info.class_count):
            each = ClassInfo()
            library.check(library.model_get_class(handle, index, byref(each)))
            self.classes.append(Class(index, each.name.decode(), tuple(each.color[:3])))

    def fingerprint(self):
        text = c_char_p()
        self.library.check(self.library.model_fingerprint(self.handle, byref(text)))
        return text.value.decode()

    def find_class(self, name):
        """The class called `name`, in any case of letters; None."""
        name = name.strip().casefold()
        return next((c for c in self.classes if c.name.casefold() == name), None)

    def can_label(self):
        """Whether this library and model find labels by themselves."""
        return self.has_labeler and self.library.label is not None

    def label(self, picture, progress=None):
        """The map that the model proposes for a picture: Pixels of one byte a class."""
        import mmap
        map = Pixels(mmap.mmap(-1, picture.width * picture.height), picture.width, picture.height, LABEL_U8)
        report = LabelReport()
        self.library.check(self.library.label(self.handle, byref(picture.image()), byref(LabelOptions(progress=told(progress))),
                                              byref(map.labels()), byref(report)))
        return map

    def extract(self, picture, labels, progress=None):
        """The style of a reference picture (Pixels) under its labels (a LabelView)."""
        handle = c_void_p()
        options = ExtractOptions(progress=told(progress))
        self.library.check(self.library.style_extract(self.handle, byref(picture.image()), byref(labels), byref(options),
                                                      byref(handle)))
        return Style(self, handle)

    def open_style(self, path):
        handle = c_void_p()
        self.library.check(self.library.style_open(self.handle, os.fsencode(path), byref(handle)))
        return Style(self, handle)

    def restyle(self, content, labels, style, output=None, target=None, mask=None, classes=None, strength=1.0, coupling=0.0,
                morph=1.0, method="network", confidence=False, own=None, progress=None):
        """Restyles `content` (Pixels), in place unless there is an `output`, and returns the report. `classes` maps an index
        to its strength. `own` (a Kept) is used where it is of this content, and else becomes it."""
        strengths = [ClassStrength(index, value) for index, value in (classes or {}).items()]
        options = RestyleOptions(fields=RESTYLE_STRENGTH | (RESTYLE_MORPH if target else 0), strength=strength,
                                 coupling=coupling, morph=morph if target else 0.0, class_count=len(strengths),
                                 method=METHODS[method], confidence=int(confidence), progress=told(progress))
        if target:
            options.target_labels = ctypes.pointer(target)
        if mask:
            options.mask = ctypes.pointer(mask.image())
        if strengths:
            options.classes = (ClassStrength * len(strengths))(*strengths)
        if own:
            options.content_style = ctypes.pointer(own.handle)
        report = RestyleReport()
        self.library.check(self.library.restyle(
            self.handle, byref(content.image()), byref(labels), style.handle, byref(options),
            byref((output or content).image()), byref(report)))
        return report

    def __del__(self):
        if getattr(self, "handle", None):
            self.library.model_release(self.handle)


class Style:
    def __init__(self, model, handle):
        self.model, self.handle = model, handle

    def has(self, index):
        present = c_uint32()
        library = self.model.library
        library.check(library.style_has_class(self.handle, index, byref(present)))
        return present.value == 1

    def save(self, path):
        self.model.library.check(self.model.library.style_save(self.handle, os.fsencode(path)))

    def __del__(self):
        self.model.library.style_release(self.handle)


class Kept(Style):
    """A content's own style from one restyling to the next; none at first. The library looks whether it is of the content."""

    def __init__(self, model, style=None):
        super().__init__(model, c_void_p())
        if style:
            # The reference changes hands.
            self.handle, style.handle = style.handle, c_void_p()
