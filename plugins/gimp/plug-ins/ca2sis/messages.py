# SPDX-License-Identifier: MIT OR Apache-2.0
"""What the user reads: translations, and the error that is a sentence."""

from gi.repository import GLib


def _(text):
    """The text in the user's language. libgimp has made `locale/LANG/LC_MESSAGES/ca2sis.mo` the default domain."""
    return GLib.dgettext(None, text)


class Trouble(Exception):
    """Something the user can put right: its text says what was wrong and what to do. Nothing has been changed."""


class Cancelled(Exception):
    """The user stopped the work. Nothing has been changed."""


def quoted(name):
    return _("“{}”").format(name)


def listed(names):
    return _(", ").join(names)
