# SPDX-License-Identifier: MIT OR Apache-2.0
"""Inside a GIMP with a window: does what window.py asks for by files, so that a test knows what the image really holds."""

import os
import sys
import time
import traceback

from gi.repository import Gimp

sys.dont_write_bytecode = True
sys.path.insert(0, os.environ["CA2SIS_TEST"])
import common  # noqa: E402

names = dict(vars(common))
folder = os.path.join(common.W, "remote")
done = 0
while not os.path.exists(os.path.join(folder, "end")):
    path = os.path.join(folder, f"{done}.py")
    if not os.path.exists(path):
        time.sleep(0.05)
        continue
    names["result"] = None
    try:
        with open(path) as code:
            exec(code.read(), names)
        answer = repr(names["result"])
    except Exception:
        answer = "FAILED\n" + traceback.format_exc()
    with open(os.path.join(folder, f"{done}.new"), "w") as out:
        out.write(answer)
    os.rename(os.path.join(folder, f"{done}.new"), os.path.join(folder, f"{done}.answer"))
    done += 1
Gimp.displays_flush()
