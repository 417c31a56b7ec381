"""Ctrl-C and SIGTERM as a user sends them: to a process with workers, at bad moments."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from invdiff.app.cli import main
from invdiff.data.sources import open_samples
from invdiff.engine.distributed.pool import run_shards
from invdiff.engine.run.folder import RunFolder
from invdiff.errors import RunError
from tests import tiny_world

PATIENCE = 240  # seconds; a busy machine is slow, not wrong
pytestmark = [
    pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc"),
    pytest.mark.skipif(
        "INVDIFF_SIGNAL_TESTS" not in os.environ,
        reason="INVDIFF_SIGNAL_TESTS=1 runs it: real signals to real workers, minutes if busy",
    ),
]


def children(pid: int) -> set[int]:
    """Processes that ``pid`` has started, directly or not."""
    parents = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if after_name[0] != "Z":
            parents[int(entry.parent.name)] = int(after_name[1])
    found, new = set(), {pid}
    while new:
        new = {child for child, parent in parents.items() if parent in new} - found
        found |= new
    return found


def alive(pids: set[int]) -> set[int]:
    def state(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return "gone"

    return {pid for pid in pids if state(pid) not in ("gone", "Z")}


def wait_for(condition, what, process):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert process.poll() is None, f"it ended before {what}"
        assert time.monotonic() < deadline, f"still no {what}"
        time.sleep(0.1)


@pytest.fixture
def few_faces(tmp_path):
    """Faces in several shards, as a file of the user's."""
    samples = open_samples("faces", 32)
    prompt = np.array(samples.prompt)
    names = samples.prompts()[:2]
    rows = np.sort(np.concatenate([np.flatnonzero(prompt == name)[:300] for name in names]))
    path = tmp_path / "few.npz"
    np.savez(path, images=samples.pictures(rows.tolist()), prompt=prompt[rows])
    return path


@pytest.fixture
def command(few_faces, tmp_path):
    words = ["discover", "--preset", "faces", "--data.path", str(few_faces)]
    words += ["--discover.images_per_prompt=40", "--discover.levels=[0.98,0.9]"]
    words += ["--study.feature_levels=[0.15]"]
    return [*words, "--out", str(tmp_path / "run")]


@pytest.fixture
def started(command, tmp_path):
    """The command with two workers, in a process group of its own, as a shell starts it."""
    log = (tmp_path / "stderr").open("w+b")
    process = subprocess.Popen(
        [sys.executable, "-m", "invdiff", *command, "--processes=2", "--discover.batch_size=2"],
        stdout=subprocess.DEVNULL,
        stderr=log,
        start_new_session=True,
        preexec_fn=tiny_world.interruptible,
    )
    yield process
    for pid in alive({process.pid} | children(process.pid)):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    log.close()


def workers(process):
    return {
        pid
        for pid in children(process.pid)
        if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }


def ended_as_interrupted(process, tmp_path, family):
    assert process.wait(PATIENCE) == 75
    told = (tmp_path / "stderr").read_text().replace("\r", "\n").splitlines()
    said = [line for line in told if line.strip() and "%|" not in line]
    assert said == [
        "invdiff: error: interrupted; run the same command again to go on where it stopped"
    ]
    deadline = time.monotonic() + PATIENCE
    while alive(family) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(family)


def test_ctrl_c_while_the_workers_start(started, tmp_path):
    """A terminal sends it to the whole group; here the workers, busy importing, get it first."""
    wait_for(lambda: len(workers(started)) == 2, "worker", started)
    time.sleep(0.3)
    family = children(started.pid)
    for worker in workers(started):
        os.kill(worker, signal.SIGINT)
    time.sleep(0.5)
    os.killpg(started.pid, signal.SIGINT)
    ended_as_interrupted(started, tmp_path, family)


def test_sigterm_in_the_middle_and_the_same_command_again(started, command, tmp_path, capfd):
    cache = tmp_path / "run" / "cache"
    wait_for(lambda: list(cache.rglob("latents-*")), "shard", started)
    family = children(started.pid)
    started.terminate()
    ended_as_interrupted(started, tmp_path, family)
    left = tiny_world.stamps(cache)
    assert left
    assert main([*command, "--processes=1"]) == 0
    now = tiny_world.stamps(cache)
    assert {name: now[name] for name in left} == left
    assert RunFolder.read(tmp_path / "run").done("discover")
    assert "discover: done\n" in capfd.readouterr().out


def test_workers_leave_when_their_parent_is_killed():
    """SIGKILL, or the kernel when memory runs out: the parent can't say anything any more."""
    code = (
        "import time\n"
        "from invdiff.engine.distributed.pool import run_shards\n"
        "if __name__ == '__main__':\n"
        "    list(run_shards(time.sleep, [600, 600], processes=2, title='asleep'))\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    wait_for(lambda: len(workers(process)) == 2, "worker", process)
    time.sleep(1)
    family = workers(process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + PATIENCE
    while alive(family) and time.monotonic() < deadline:
        time.sleep(0.05)
    left = alive(family)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def test_a_worker_that_was_killed_is_named():
    """os._exit stands for the kernel's out-of-memory killer."""
    with pytest.raises(RunError, match=r"a worker process was killed.*fewer processes"):
        list(run_shards(os._exit, [9, 9], processes=2, title=""))
