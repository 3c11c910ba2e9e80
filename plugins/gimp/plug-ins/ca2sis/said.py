# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the library says, in the user's language. It speaks English, in sentences of fixed forms: tests/sentences.py compares the
forms here with the library's source, both ways."""

import re

from messages import _


def N_(text):
    """Marks a text to be translated later."""
    return text


# {} is a value: a number, a name, or again a text of one of these forms.
LIBRARY = [
    # devices
    N_("device: {}"),
    N_("this build of ca2sis has no CUDA: build it with --features cuda, or choose cpu"),
    N_("this build of ca2sis has no Metal: build it with --features metal, or choose cpu"),
    N_("{} device {} cannot be used: {}"),
    N_("its driver failed: {}"),
    N_("it does not say why"),
    N_("CUDA cannot be used: {} does not load ({}): {}"),
    N_("its path holds a NUL"),
    N_("no reason given"),
    N_("it comes with NVIDIA's driver"),
    N_("install the run-time libraries of CUDA 13, or name their folder in CA2SIS_CUDA_PATH"),
    N_("the {} device has no memory left for this: close other programs that use it, or choose the device cpu ({})"),
    N_("the {} device failed: start the program again, or choose the device cpu ({})"),
    N_("the network drew a picture with the value {}: try --precision f32 (CA2_PRECISION_F32), or another model"),
    # model files
    N_("this build of ca2sis has no model inside (feature embed-model): name a model file (--model FILE)"),
    N_("not a regular file"),
    N_("no safetensors file: it is {} bytes long"),
    N_("no safetensors file, or cut short: its header would be {} bytes long, but {} follow"),
    N_("a header of {} bytes, more than the {} a model can need"),
    N_("no safetensors header: {}"),
    N_("damaged or cut short: its header describes {} bytes of tensors, but {} follow"),
    N_("a safetensors file, but no model of ca2sis: its header has no metadata key {}"),
    N_("weights are F16, BF16 or F32, but {}"),
    N_("has no tensor {}"),
    N_("tensor {} is {}: weights are F16, BF16 or F32"),
    N_("tensor {} holds {} at element {}: the file is damaged"),
    N_("its tensors are not those of a network of its sizes: {}"),
    N_("its description: {}"),
    N_("format version 0 does not exist: write the file again with `ca2sis train`"),
    N_("format version {}, but this version of ca2sis reads format {}: use a newer ca2sis"),
    N_("lists {} classes, but its network has {}"),
    N_("lists {} classes, not 1 to 255"),
    N_("class {} has index {} at place {}: number the classes from 0 in order"),
    N_("class {} is named {}: a name is not empty and has no comma, equals sign or control character, and no space at either end"),
    N_("two classes are named {}: give each its own name"),
    N_("network sizes: side {} is no multiple of what {} pixels have in one cell"),
    N_("network sizes: {}"),
    N_("mask_size {} is no multiple of base_size {}, as mask_rank asks"),
    N_("resolution {} cannot be halved {} times (style_downs)"),
    N_("resolution {} cannot be halved {} times (labeler.widths)"),
    N_("labeler.widths: {} is no multiple of norm_groups {}"),
    N_("stage {}: {} {} is no multiple of norm_groups {}"),
    N_("stage {} takes {} channels, but stage {} gives {}"),
    N_("base_size {} and the stages' doublings give {}, not resolution {}"),
    # style files
    N_("style: {}"),
    N_("longer than the {} bytes that a style can have"),
    N_("no style, or damaged: {}"),
    N_("a safetensors file, but no style of ca2sis: its header has no metadata key {}"),
    N_("style format {}, but this version of ca2sis reads format {}: extract it again from its picture"),
    N_("a style of another model ({}), {}: extract it again with the model in use ({})"),
    N_("of {} classes and width {} instead of {} and {}"),
    N_("with other weights"),
    N_("holds {} tensors, not \"codes\", \"residuals\", \"errors\", \"present\", \"statistics\"{} alone"),
    N_("its {} is {} {}, not {} {}"),
    N_("damaged: the code of class {} holds {}"),
    N_("damaged: the residual of class {} is outside [-1, 1]"),
    N_("damaged: the error of class {} is {}, not 0 to 1"),
    N_("damaged: \"present\" holds {}, not 0 or 1"),
    N_("damaged: \"drawn\" holds {}, not 0 to 1"),
    N_("damaged: the statistics of class {} are of no colours"),
    # the work
    N_("a mask's values are 0 to 1, not {}"),
    N_("a defect of ca2sis: {}; the call did nothing, please report it"),
    # so general that they come last
    N_("model: {}"),
    N_("{} is {}, not {} to {}"),
]

# What the library passes on: of the system, where that does not speak the user's language itself, and of the reader of files.
PASSED_ON = [
    N_("header too large"),
    N_("header too small"),
    N_("invalid header length"),
    N_("invalid UTF-8 in header: {}"),
    N_("invalid JSON in header: {}"),
    N_("tensor `{}` not found"),
    N_("invalid shape, data type, or offset for tensor"),
    N_("invalid offset for tensor `{}`"),
    N_("incomplete metadata, file not fully covered"),
    N_("overflow computing buffer size from shape and/or element type"),
    N_("{} (os error {})"),
    N_("No such file or directory"),
    N_("Permission denied"),
    N_("Is a directory"),
    N_("Not a directory"),
    N_("No space left on device"),
    N_("Read-only file system"),
    N_("{}: invalid ELF header"),
    N_("{}: file too short"),
    N_("{}: cannot open shared object file: {}"),
]


def pattern(form):
    return re.compile("(.+?)".join(map(re.escape, form.split("{}"))), re.DOTALL)


PATTERNS = []


def translated(text):
    """A sentence of the library or the system in the user's language, with its values; as it is where its form is not known."""
    if _(LIBRARY[0]) == LIBRARY[0]:
        return text  # no translation
    if not PATTERNS:
        PATTERNS.extend((form, pattern(form)) for form in LIBRARY[:-2] + PASSED_ON + LIBRARY[-2:])
    for form, like in PATTERNS:
        found = like.fullmatch(text)
        if found:
            return _(form).format(*map(translated, found.groups()))
    # A file's name, and what is wrong with it.
    name, colon, rest = text.partition(": ")
    return _("{}: {}").format(name, translated(rest)) if colon and re.match(r"[/~]|[A-Za-z]:\\", name) else text
