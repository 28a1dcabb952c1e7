"""Publishing that is killed: whenever that is, an artifact is the old one or the new one."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

from tests.helpers.published import generation_of

KILL_AT_EVERY_STEP = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.helpers.published import generation_of, make

destination = Path(sys.argv[1])
make(destination, 1)
outcomes = set()
for step in range(10_000):
    child = os.fork()
    if child == 0:
        left = step
        def count(event, arguments):
            global left
            if event != "os.kill" and event.startswith(("os.", "open", "shutil.", "ctypes.", "fcntl.")):
                left -= 1
                if left < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
        sys.addaudithook(count)
        make(destination, 2, overwrite=True)
        os._exit(0)
    killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
    outcomes.add(generation_of(destination))
    if not killed:
        break
    make(destination, 1, overwrite=True)  # over what the dead one left
    assert [file.name for file in destination.parent.iterdir()] == ["artifact"]
print(step, sorted(outcomes))
"""


def test_killed_at_every_step_of_publishing(tmp_path: Path) -> None:
    """Killed before each call that touches the disk: the old artifact, then the new one; never a mixture."""
    here = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", KILL_AT_EVERY_STEP, str(tmp_path / "artifact"), here],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    steps, outcomes = done.stdout.split(maxsplit=1)
    assert int(steps) > 20
    assert outcomes.strip() == "[1, 2]"


PUBLISH_FOREVER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.helpers.published import make
generation = 1
while True:
    generation = generation % 9 + 1
    make(Path(sys.argv[1]), generation, overwrite=True)
    print(generation, flush=True)
"""


def test_killed_at_random_moments(tmp_path: Path) -> None:
    destination, rng = tmp_path / "artifact", random.Random(0)
    for _ in range(12):
        process = subprocess.Popen(
            [sys.executable, "-c", PUBLISH_FOREVER, str(destination), str(Path(__file__).parents[2])],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0, 0.05))
        process.kill()
        process.communicate()
        generation_of(destination)
