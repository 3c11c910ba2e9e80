# SPDX-License-Identifier: MIT OR Apache-2.0
"""The library called directly, in a few lines of its own: what the plug-in's results are compared with."""

import ctypes as c


class View(c.Structure):
    _fields_ = [("data", c.c_void_p), ("width", c.c_uint32), ("height", c.c_uint32), ("format", c.c_uint32), ("more", c.c_uint32),
                ("row", c.c_int64), ("pixel", c.c_int64)]


class Strength(c.Structure):
    _fields_ = [("index", c.c_uint32), ("strength", c.c_float)]


class Options(c.Structure):
    _fields_ = [("size", c.c_size_t), ("fields", c.c_uint64), ("target", c.c_void_p), ("mask", c.c_void_p), ("classes", c.c_void_p),
                ("count", c.c_size_t), ("strength", c.c_float), ("coupling", c.c_float), ("morph", c.c_float), ("method", c.c_uint32),
                ("confidence", c.c_uint32), ("reserved", c.c_uint32), ("map", c.c_void_p),
                ("progress", c.c_void_p), ("data", c.c_void_p)]


class ModelInfo(c.Structure):
    _fields_ = [("size", c.c_size_t), ("texts", c.c_char_p * 3), ("numbers", c.c_uint32 * 5), ("has_labeler", c.c_uint32)]


class Direct:
    """A library with a model: the one inside it, or a file's."""

    def __init__(self, path, model=None):
        self.lib = lib = c.CDLL(path)
        lib.ca2_last_error.restype = c.c_char_p
        context, self.model = c.c_void_p(), c.c_void_p()
        self.check(lib.ca2_context_create(None, c.byref(context)))
        if model:
            self.check(lib.ca2_model_open(context, model.encode(), c.byref(self.model)))
        else:
            self.check(lib.ca2_model_open_default(context, c.byref(self.model)))
        info = ModelInfo(size=c.sizeof(ModelInfo))
        self.check(lib.ca2_model_get_info(self.model, c.byref(info)))
        self.has_labeler = info.has_labeler == 1

    def check(self, status):
        if status:
            raise RuntimeError(self.lib.ca2_last_error().decode())

    def label(self, pixels, width, height, linear=0):
        """A byte a class that the model finds in float pixels."""
        picture = View(c.cast(pixels, c.c_void_p), width, height, len(pixels) // (4 * width * height) + 64, linear)
        found = c.create_string_buffer(width * height)
        self.check(self.lib.ca2_label(self.model, c.byref(picture), None, c.byref(View(c.addressof(found), width, height, 1)), None))
        return found.raw[:width * height]

    def style(self, rgba, labels, width, height, linear=0):
        """Of float RGBA bytes and a byte a class index."""
        style = c.c_void_p()
        picture, map = View(c.cast(rgba, c.c_void_p), width, height, 68, linear), View(c.cast(labels, c.c_void_p), width, height, 1)
        self.check(self.lib.ca2_style_extract(self.model, c.byref(picture), c.byref(map), None, c.byref(style)))
        return style

    def save(self, style, path):
        self.check(self.lib.ca2_style_save(style, path.encode()))

    def restyle(self, rgba, labels, width, height, style, mask=None, target=None, classes=None, strength=None, coupling=0.0,
                morph=None, method=0, linear=0):
        """Float pixels restyled, gray or RGB with alpha; `mask` is floats as bytes, `classes` {index: strength}."""
        data = c.create_string_buffer(rgba, len(rgba))
        content = View(c.addressof(data), width, height, len(rgba) // (4 * width * height) + 64, linear)
        map = View(c.cast(labels, c.c_void_p), width, height, 1)
        options = Options(size=c.sizeof(Options), coupling=coupling, method=method)
        keep = []
        if mask is not None:
            keep.append(View(c.cast(mask, c.c_void_p), width, height, 65))
            options.mask = c.addressof(keep[-1])
        if target is not None:
            keep.append(View(c.cast(target, c.c_void_p), width, height, 1))
            options.target = c.addressof(keep[-1])
        if classes:
            keep.append((Strength * len(classes))(*[Strength(*each) for each in classes.items()]))
            options.classes, options.count = c.addressof(keep[-1]), len(classes)
        if strength is not None:
            options.fields |= 1
            options.strength = strength
        if morph is not None:
            options.fields |= 2
            options.morph = morph
        self.check(self.lib.ca2_restyle(self.model, c.byref(content), c.byref(map), style, c.byref(options), c.byref(content), None))
        return data.raw
