"""What is written to the folder of a run is there whole or not at all, and by one process."""

import errno
import fcntl
import json
import os
import subprocess
import sys

import pytest

from advdl.errors import UserError
from advdl.train import Run, files, lock


@pytest.fixture
def calls(monkeypatch):
    """The calls of the system that change something, in turn."""
    found = []

    def recorded(name, call):
        def record(*given):
            found.append(name)
            return call(*given)

        return record

    for name, call in vars(files.system).items():
        monkeypatch.setattr(files.system, name, recorded(name, call))
    return found


def test_content_is_on_disk_before_it_has_its_name_and_the_name_afterwards(tmp_path, calls):
    files.write(tmp_path / "file", b"content")
    assert calls == ["open", "write", "fsync", "replace", "fsync"]
    assert (tmp_path / "file").read_bytes() == b"content"


@pytest.mark.parametrize("name", ["open", "write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_file_as_it_was_and_nothing_beside_it(
    tmp_path, monkeypatch, name
):
    (tmp_path / "file").write_text("before")

    def refuse(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(files.system, name, refuse)
    with pytest.raises(OSError, match="No space left"):
        files.write(tmp_path / "file", b"after")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "before"


def test_a_system_that_takes_only_a_part_at_a_time_gets_all_of_it(tmp_path, monkeypatch):
    write = os.write
    monkeypatch.setattr(files.system, "write", lambda file, content: write(file, content[:3]))
    files.write(tmp_path / "file", b"0123456789")
    appended = files.Appended(tmp_path / "log")
    appended(b"abcdefgh\n")
    appended.close()
    assert (tmp_path / "file").read_bytes() == b"0123456789"
    assert (tmp_path / "log").read_bytes() == b"abcdefgh\n"


@pytest.mark.parametrize("name", [".config.json.tmp", "config.json"])
def test_a_link_that_was_planted_is_not_followed(tmp_path, name):
    (tmp_path / "victim").write_text("mine")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(tmp_path / "victim")
    Run(tmp_path / "run").write("config.json", {"a": 1})
    assert (tmp_path / "victim").read_text() == "mine"
    assert not (tmp_path / "run" / "config.json").is_symlink()


def test_json_has_no_number_that_is_not_finite(tmp_path):
    inf = float("inf")
    Run(tmp_path).write("summary.json", {"a": {"b": [1.5, float("nan")]}, "c": (inf, -inf)})

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    found = json.loads((tmp_path / "summary.json").read_text(), parse_constant=refuse)
    assert found == {"a": {"b": [1.5, "nan"]}, "c": ["inf", "-inf"]}


@pytest.mark.slow
def test_a_run_that_is_trained_is_refused_to_another_process_and_free_when_that_is_killed(tmp_path):
    hold = f"""
import pathlib, time
from advdl.train import Run
run = Run({str(tmp_path / "run")!r})
run.start("parity", {{}})
print("held", flush=True)
time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", hold], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        for attempt in (Run.claim, lambda run: run.start("parity", {})):
            with pytest.raises(UserError, match=f"is trained by process {holder.pid} on .* since"):
                attempt(Run(tmp_path / "run"))
    finally:
        holder.kill()
        holder.communicate()
    run = Run(tmp_path / "run")
    run.claim()
    run.start("parity", {})
    assert json.loads((tmp_path / "run" / "run.lock").read_text())["process"] == os.getpid()
    run.lock.release()


def test_two_that_begin_a_run_at_once_do_not_both_begin_it(tmp_path):
    first, second = Run(tmp_path / "run"), Run(tmp_path / "run")
    second.claim()  # there is nothing yet
    first.claim()
    first.start("parity", {})
    with pytest.raises(UserError, match=f"is trained by process {os.getpid()}"):
        second.start("parity", {})
    first.lock.release()
    with pytest.raises(UserError, match="was begun by another process just now"):
        second.start("parity", {})


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    run = Run(tmp_path / "run")
    run.start("parity", {})
    run.lock.release()
    assert "has no locks; two trainings in this folder" in capsys.readouterr().err
    assert (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize("name", ["mkdir", "open", "write", "fsync", "replace"])
@pytest.mark.parametrize("nth", [1, 2, 3])
def test_a_start_that_failed_can_be_tried_again(tmp_path, monkeypatch, name, nth):
    """A full disk, or a kill, which cleans nothing up."""

    class Killed(BaseException):
        pass

    for error in (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), Killed()):
        folder = tmp_path / type(error).__name__
        with monkeypatch.context() as patch:
            count, call = 0, getattr(files.system, name)

            def failing(*given, call=call, error=error):
                nonlocal count
                count += 1
                if count == nth:
                    raise error
                return call(*given)

            patch.setattr(files.system, name, failing)
            run = Run(folder)
            try:
                run.start("parity", {})
                run.write("spec.json", {})
            except (UserError, Killed):
                pass
            run.lock.release()
        again = Run(folder)
        again.claim()
        again.start("parity", {"steps": 3})
        again.lock.release()
        assert again.config("parity") == {"steps": 3}
        assert not list(folder.glob(files.TEMPORARY))


def test_a_folder_that_only_looks_begun_is_not_taken(tmp_path):
    (tmp_path / "thesis.txt").write_text("do not touch")
    with pytest.raises(UserError, match="is not empty and holds no run"):
        Run(tmp_path).start("parity", {})
    assert not (tmp_path / lock.NAME).exists()
