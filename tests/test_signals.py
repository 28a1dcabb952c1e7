"""Signals: raised once, remembered, held back where asked, and deaf to impatience while cleaning up."""

from __future__ import annotations

import subprocess
import sys

import pytest

BEGIN = """
import os, signal, sys, threading, time
from chronos_export import interruption
interruption.watch()
me = os.getpid()
def stop(number=signal.SIGINT):
    os.kill(me, number)
    for _ in range(1000): pass  # a signal is looked for between two instructions
"""

PROGRAMS = {
    "the first is raised": (
        """
try: stop()
except KeyboardInterrupt: print("raised")
print(interruption.exit_code())
""",
        ["raised", "130"],
    ),
    "SIGTERM and SIGHUP are raised alike, and the first names the code": (
        """
for number in (signal.SIGHUP, signal.SIGTERM):
    try: stop(number)
    except KeyboardInterrupt: print("raised")
print(interruption.exit_code())
""",
        ["raised", "raised", "129"],
    ),
    "a second does not cut the cleaning up": (
        """
try:
    try: stop()
    finally:
        stop()
        stop(signal.SIGTERM)
        print("cleaned")
except KeyboardInterrupt: print("raised")
""",
        ["cleaned", "raised"],
    ),
    "one that was swallowed can be sent again": (
        """
try: stop()
except: pass
try: stop()
except KeyboardInterrupt: print("raised")
""",
        ["raised"],
    ),
    "a block that is not to be cut ends first": (
        """
try:
    with interruption.deferred():
        with interruption.deferred():
            stop()
            print("inner")
        print("outer")
    print("never")
except KeyboardInterrupt: print("raised")
with interruption.deferred(): print("once")
""",
        ["inner", "outer", "raised", "once"],
    ),
    "its own error goes before": (
        """
try:
    with interruption.deferred():
        stop()
        raise ValueError("mine")
except ValueError as error: print(error)
print(interruption.exit_code())
""",
        ["mine", "130"],
    ),
    "what another thread holds back does not keep the main thread": (
        """
def hold():
    with interruption.deferred():
        ready.set()
        time.sleep(5)
ready = threading.Event()
threading.Thread(target=hold, daemon=True).start()
ready.wait()
try: stop()
except KeyboardInterrupt: print("raised")
""",
        ["raised"],
    ),
    "at the end nothing is raised any more": (
        """
interruption.ignore()
for number in interruption.SIGNALS: stop(number)
print("ended")
""",
        ["ended"],
    ),
}


@pytest.mark.parametrize("what", PROGRAMS)
def test_signals(what: str) -> None:
    program, said = PROGRAMS[what]
    done = subprocess.run([sys.executable, "-c", BEGIN + program], capture_output=True, text=True)
    assert (done.stdout.splitlines(), done.stderr, done.returncode) == (said, "", 0)


def test_a_closed_terminal_stays_ignored_under_nohup() -> None:
    program = BEGIN + "stop(signal.SIGHUP)\nprint('goes on')"
    done = subprocess.run(["nohup", sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout == "goes on\n"
