# SPDX-License-Identifier: MIT OR Apache-2.0
"""The plug-in in a GIMP with a window, driven by keys and the pointer as a user would. Runs inside the host, beside GIMP.

`remote()` asks GIMP what the image holds. Pictures of the screen go to $CA2SIS_TEST/shots."""

import ast
import os
import signal
import subprocess
import sys
import time
import traceback

W = os.environ["CA2SIS_TEST"]
REMOTE, SHOTS = os.path.join(W, "remote"), os.path.join(W, "shots")
DIALOG = "CA2-SIS Restyle|CA2-SISで"
sent = 0


def x(*arguments, check=True):
    return subprocess.run(["xdotool", *map(str, arguments)], capture_output=True, text=True, check=check).stdout


def shot(name):
    os.makedirs(SHOTS, exist_ok=True)
    subprocess.run(["import", "-silent", "-window", "root", os.path.join(SHOTS, name + ".png")], check=True)


def until(what, condition, seconds=30, every=0.1):
    end = time.time() + seconds
    while time.time() < end:
        found = condition()
        if found:
            return found
        time.sleep(every)
    shot("waiting")
    raise AssertionError(f"{what}: not within {seconds} s (shots/waiting.png)")


def remote(code, seconds=60):
    """Runs code inside GIMP; the value of `result` or of an expression."""
    global sent
    try:
        ast.parse(code, mode="eval")
        code = "result = " + code
    except SyntaxError:
        pass
    with open(os.path.join(REMOTE, f"{sent}.new"), "w") as file:
        file.write(code)
    os.rename(os.path.join(REMOTE, f"{sent}.new"), os.path.join(REMOTE, f"{sent}.py"))
    path = os.path.join(REMOTE, f"{sent}.answer")
    until("GIMP's answer", lambda: os.path.exists(path), seconds, 0.02)
    sent += 1
    with open(path) as file:
        answer = file.read()
    if answer.startswith("FAILED"):
        raise AssertionError(answer)
    return ast.literal_eval(answer)


def windows(pattern):
    return x("search", "--onlyvisible", "--name", pattern, check=False).split()


def dialog():
    found = windows(DIALOG)
    return found[0] if found else None


def key(*names):
    for name in names:
        x("key", "--clearmodifiers", name)
        time.sleep(0.15)


def main_window():
    found = until("GIMP's window", lambda: windows("scene.xcf|restyle-scene|Untitled|– GIMP"))
    x("windowactivate", "--sync", found[-1], check=False)
    x("mousemove", 640, 420)
    time.sleep(0.3)


def search(text):
    """GIMP's action search, by its key."""
    main_window()
    key("slash")
    until("the action search", lambda: windows("Search Actions|アクション"), 15)
    time.sleep(0.4)
    x("type", text)
    time.sleep(1.2)
    key("Return")


def open_dialog():
    search("CA2-SIS Rest")
    until("the dialog", dialog, 20, 0.02)
    x("windowactivate", "--sync", dialog(), check=False)
    time.sleep(2.5)


def closed(seconds=60):
    until("the end of the dialog", lambda: not dialog(), seconds)
    time.sleep(0.5)


def layers():
    return remote("[l.get_name() for l in image.get_layers()]")


SCENE = """
scene = Scene(alpha=False)
image = scene.image
labels = label_layer(image, LABELS, "labels")
image.reorder_item(scene.photo, None, 0)
image.set_selected_layers([scene.photo])
other = Gimp.Image.new_with_precision(*SIZE, Gimp.ImageBaseType.RGB, Gimp.Precision.FLOAT_NON_LINEAR)
look = a_layer(other, "look")
write(look, "R'G'B'A float", REFERENCE)
label_layer(other, REFERENCE_LABELS, "its labels")
other.reorder_item(look, None, 0)
image.clean_all()
display = Gimp.Display.new(image)
before = snapshot(image)
"""

tests = []


def test(function):
    tests.append(function)
    return function


@test
def the_dialog_opens_by_search_and_applies_what_its_preview_shows():
    remote(SCENE)
    open_dialog()
    shot("dialog")
    key("alt+y")
    closed()
    assert layers() == ["photo restyled", "photo", "labels"], layers()
    remote("equal(read(image.get_layers()[0]), scene.stored(scene.direct(scene.floats(), LABELS, *SIZE, STYLE)), 'the result')")
    shot("applied")


@test
def undo_is_one_step():
    main_window()
    key("ctrl+z")
    time.sleep(1)
    remote("differences = snapshot(image)[0] == before[0]\nassert differences, 'one undo does not give the image back'")
    assert layers() == ["photo", "labels"]


@test
def repeat_has_the_reference_also_when_its_image_is_closed():
    remote("other.delete()")
    main_window()
    key("ctrl+f")
    until("the repeated result", lambda: len(layers()) == 3)
    remote("equal(read(image.get_layers()[0]), scene.stored(scene.direct(scene.floats(), LABELS, *SIZE, STYLE)), 'repeated')")


@test
def settings_are_kept_and_the_last_look_too():
    main_window()
    key("ctrl+z")
    time.sleep(0.5)
    remote("image.set_selected_layers([scene.photo])")
    open_dialog()
    # The strength: its slider by its key, then half.
    key("alt+t")
    key("ctrl+a")
    x("type", "50")
    key("Tab")
    time.sleep(1)
    shot("half")
    key("alt+y")
    closed()
    remote("equal(read(image.get_layers()[0]), scene.stored(scene.direct(scene.floats(), LABELS, *SIZE, STYLE, strength=0.5)), 'half')")
    main_window()
    key("ctrl+z")
    remote("image.set_selected_layers([scene.photo])")
    open_dialog()
    key("alt+y")
    closed()
    remote("equal(read(image.get_layers()[0]), scene.stored(scene.direct(scene.floats(), LABELS, *SIZE, STYLE, strength=0.5)), 'again')")


@test
def cancel_leaves_the_image_as_it_was():
    main_window()
    key("ctrl+z")
    remote("image.set_selected_layers([scene.photo])")
    remote("before = snapshot(image)")
    open_dialog()
    key("Escape")
    closed()
    remote("assert snapshot(image) == before, 'the image changed'")


def kill_plug_in():
    """Ends the processes of this test's own copy of the plug-in."""
    plug_in = remote("PLUG_IN").encode() + b"/ca2sis.py"
    for entry in os.listdir("/proc"):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as file:
                if plug_in in file.read().split(b"\0"):
                    os.kill(int(entry), signal.SIGKILL)
        except (OSError, ValueError):
            pass


@test
def a_killed_plug_in_leaves_the_image_as_it_was():
    """What GIMP's own Cancel does: it ends the process, here at several moments of the work."""
    for moment in (0.3, 0.6, 0.9, 1.2):
        remote("before = snapshot(image)[0]")
        main_window()
        key("ctrl+f")
        time.sleep(moment)
        kill_plug_in()
        time.sleep(1.5)
        for each in windows("GIMP Message|Plug-in crashed"):
            x("windowactivate", "--sync", each, check=False)
            key("Escape")
        same = remote("snapshot(image)[0] == before")
        more = len(layers())
        assert same or more == 3, "half a result"
        if not same:
            key("ctrl+z")
            time.sleep(0.5)


def main():
    only = os.environ.get("CA2SIS_ONLY", "")
    good = bad = 0
    remote("GIMP = 1", 120)
    for each in tests:
        if only and only not in each.__name__:
            continue
        start = time.time()
        try:
            each()
            good += 1
            print(f"ok      {each.__name__} ({time.time() - start:.1f} s)", flush=True)
        except Exception:
            bad += 1
            print(f"FAILED  {each.__name__}", flush=True)
            traceback.print_exc(file=sys.stdout)
            shot("failed-" + each.__name__)
            if dialog():
                key("Escape")
    print(f"window: {good} passed, {bad} failed")
    with open(os.path.join(REMOTE, "end"), "w"):
        pass
    return 1 if bad or not good else 0


if __name__ == "__main__":
    sys.exit(main())
