"""Worker processes: all results, in any number of processes; quiet ones and early ends."""

import os
import re
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from tqdm import tqdm

from invdiff.engine import distributed
from invdiff.engine.distributed import pool
from invdiff.errors import RunError


def work(seconds):
    for _ in tqdm(range(1), desc="inner"):
        time.sleep(seconds)
    return seconds, os.getpid()


def titles(text):
    return {name for name in ("inner", "outer") if name in text}


def test_one_process_works_here_and_in_order(capfd):
    shards = [0.02, 0.0, 0.01]
    done = list(pool.run_shards(work, shards, processes=1, title="outer", done=2))
    assert done == [(shard, (shard, os.getpid())) for shard in shards]
    told = capfd.readouterr().err
    assert titles(told) == {"inner", "outer"}
    assert "5/5" in told


@pytest.mark.parametrize("quiet", [True, False])
def test_workers_do_every_shard_once(capfd, quiet):
    shards = [0.0, 0.01, 0.02] if not quiet else [0.0]
    done = list(pool.run_shards(work, shards, processes=2, title="outer", quiet=quiet))
    assert sorted(shard for shard, _ in done) == shards
    assert os.getpid() not in {pid for _, (_, pid) in done}
    assert titles(capfd.readouterr().err) == ({"outer"} if quiet else {"inner", "outer"})


def workers_of(count, *, wait=0.1):
    done = pool.run_shards(work, [wait] * count, processes=2, title="outer")
    return {pid for _, (_, pid) in done}


def test_kept_workers_do_the_next_pass_as_well():
    assert not workers_of(2) & workers_of(2)
    with pool.kept_workers():
        with pool.kept_workers():
            first = workers_of(2)
        assert workers_of(4, wait=0.3) & first
    assert not workers_of(2) & first


def test_workers_are_not_kept_after_a_failure():
    with pool.kept_workers():
        first = workers_of(2)
        with pytest.raises(ValueError, match="no time"):
            list(pool.run_shards(fail_or_sleep, [0, 600], processes=2, title="outer"))
        assert not workers_of(2) & first


def fail_or_sleep(seconds):
    if not seconds:
        raise ValueError("no time")
    time.sleep(seconds)


def test_a_failure_does_not_wait_for_the_others():
    code = (
        "from test_pool import fail_or_sleep\n"
        "from invdiff.engine.distributed.pool import run_shards\n"
        "if __name__ == '__main__':\n"
        "    list(run_shards(fail_or_sleep, [600, 0, 600, 600], processes=2, title='outer'))\n"
    )
    here = os.path.dirname(__file__)
    paths = os.pathsep.join([here, *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 1
    assert "ValueError: no time" in done.stderr


@pytest.mark.parametrize(
    ("how", "told"), [("SIGKILL", "by the signal SIGKILL"), ("exit", "exit code 3")]
)
def test_what_ended_a_worker_is_read_and_not_guessed(how, told):
    with pytest.raises(RunError) as caught:
        list(pool.run_shards(end, [how, "wait"], processes=2, title="outer"))
    assert f"ended before its work was done ({told}" in str(caught.value)
    assert "memory" not in str(caught.value)


def end(how):
    if how == "SIGKILL":
        os.kill(os.getpid(), signal.SIGKILL)
    elif how == "exit":
        os._exit(3)
    time.sleep(60)


@pytest.mark.parametrize(
    ("requested", "device", "expected"),
    [(3, "cpu", 3), (3, "cuda", 3), (0, "cuda", 1), (0, "cpu", min(2, os.cpu_count() or 1))],
)
def test_how_many_processes(requested, device, expected, monkeypatch):
    assert pool.worker_count(requested, device) == max(1, requested)  # from Python
    monkeypatch.setattr(distributed, "by_command", True)
    assert pool.worker_count(requested, device) == expected


SCRIPT = """
from pathlib import Path
from test_pool import end_as
from invdiff.engine.distributed.pool import run_shards
from invdiff.errors import RunError
with Path("begun").open("a") as file:
    file.write("x")
try:
    print("done", list(run_shards(end_as, [{how}] * 2, processes={processes}, title="outer")))
except RunError as error:
    print("told", error)
"""


def end_as(how):
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "exit":
        os._exit(3)
    return how


@pytest.mark.parametrize(
    ("how", "processes", "guarded", "told"),
    [
        (0, 1, False, "done"),
        (
            0,
            2,
            False,
            'told a worker process runs your script again .*`if __name__ == "__main__":`',
        ),
        (
            "kill",
            2,
            True,
            r"told a worker process ended before .* \(by the signal SIGKILL\): run the same",
        ),
        (
            "exit",
            2,
            True,
            r"told a worker process ended before .* \(exit code 3; what it said is above\)",
        ),
    ],
)
def test_the_end_of_a_worker_is_told_as_far_as_it_is_known(tmp_path, how, processes, guarded, told):
    text = SCRIPT.format(how=repr(how), processes=processes)
    if guarded:
        head, body = text.split("with Path", 1)
        text = f"{head}if __name__ == '__main__':\n" + textwrap.indent(f"with Path{body}", "    ")
    (tmp_path / "script.py").write_text(text)
    paths = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, timeout=200,
        env=os.environ | {"PYTHONPATH": paths},
    )  # fmt: skip
    assert re.match(told, done.stdout)
    assert "memory ran out" not in done.stdout
    assert "Traceback" not in done.stderr
