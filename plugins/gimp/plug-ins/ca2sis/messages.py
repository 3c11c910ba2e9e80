# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the user reads: translations, and errors as sentences."""

import errno

from gi.repository import GLib


def _(text):
    """The text in the user's language. libgimp has made `locale/LANG/LC_MESSAGES/ca2sis.mo` the default domain."""
    return GLib.dgettext(None, text)


class Trouble(Exception):
    """Something the user can put right: its text says what was wrong and what to do. Nothing has been changed."""


class Cancelled(Exception):
    """The user stopped the work. Nothing has been changed."""


def sentence(error):
    """What to tell the user of an error. One that nobody foresaw goes to GIMP's terminal too."""
    if isinstance(error, Trouble):
        return str(error)
    # mmap says it in a way of its own.
    if isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM:
        return _("There is not enough memory for this layer. Close other images, or crop the layer.")
    import traceback
    traceback.print_exception(type(error), error, error.__traceback__)
    return _("The plug-in has a defect: {}. Nothing has been changed. Please report it with what GIMP printed to its "
             "terminal.").format(f"{type(error).__name__}: {error}")


def quoted(name):
    return _("“{}”").format(name)


def listed(names):
    return _(", ").join(names)
