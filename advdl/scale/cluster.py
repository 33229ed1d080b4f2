"""Many processes that train one network together: how they meet, and how each hears that another is
gone.

JAX's own service (`jax.distributed`, in process 0) brings them together. It also ends a process
whose peer has died, but by an abort with a stack trace and, of a peer that is not process 0, after
the others have failed for no stated reason. So each process says through the service's key-value
store that it is alive, process 0 looks who no longer does, and all of them hear it from there: in
one line, with an exit status that says that the same command resumes.
"""

import contextlib
import ctypes
import errno
import ipaddress
import os
import pathlib
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import NamedTuple, NoReturn

import jax

from advdl.errors import UserError
from advdl.ranges import Range, whole_number
from advdl.train import hosts
from advdl.train.watchdog import STATUS

ALIVE, GONE = "advdl/alive/", "advdl/gone/"


class Meeting(NamedTuple):
    """coordinator: `HOST:PORT` of process 0, how many processes there are, and the number of this
    one; each None where the cluster says it: Cloud TPU, Slurm, Open MPI and Kubernetes do. start:
    seconds within which all have to come. silence: seconds after which a process that says nothing
    is gone."""

    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None
    start: float = 300
    silence: float = 60


_peers: "Peers | None" = None


@contextlib.contextmanager
def joined(meeting: Meeting) -> Iterator[None]:
    """What happens inside is done together; before it, no device may have been asked for. An error
    is for the caller to `leave` with.

    Raises UserError where the processes do not find each other. Once they have, a process that dies
    ends the others within `silence` and a few seconds, with status 3 and a line that says which one
    is gone; so does one that ends by an error.
    """
    global _peers
    _meet(meeting)
    _peers = Peers(meeting.silence)
    hosts.barrier("joined")
    yield
    _peers.close()
    jax.distributed.shutdown()
    _peers = None


@contextlib.contextmanager
def attribute_peer_failure() -> Iterator[None]:
    """Where an error inside may come of another process's end, waits to hear of it, which ends this
    one with that line; a collective fails at once where a peer has died, and which it was is known
    later."""
    try:
        yield
    except Exception as error:
        if _peers is not None and _of_jax(error):
            print(
                f"process {jax.process_index()}: {_first_line(error)}", file=sys.stderr, flush=True
            )
            _peers.hear()
        raise


def leave(reason: str | BaseException, status: int = 2) -> None:
    """Where this process has joined others: ends it and, with the reason, all of them. An error's
    traceback is printed."""
    if _peers is None:
        return
    if isinstance(reason, BaseException):
        traceback.print_exception(reason)
        reason = _first_line(reason)
    _peers.tell(reason)
    _exit(status)


def _of_jax(error: BaseException | None) -> bool:
    """Whether JAX's run time raised it, or what it comes from (a checkpoint that could not be
    written, say)."""
    return error is not None and (
        isinstance(error, jax.errors.JaxRuntimeError) or _of_jax(error.__cause__)
    )


def _first_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".partition("\n")[0][:300]


def _exit(status: int) -> NoReturn:
    """At once: the ordinary way waits for the peers."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _meet(meeting: Meeting) -> None:
    given = coordinator, processes, process = meeting[:3]
    bind = None
    if coordinator is not None and processes is not None and process is not None:
        _check(coordinator, processes, process)
        bind = None if process else _address_to_bind(coordinator)
    elif given.count(None) < 3:
        raise UserError(
            "--coordinator HOST:PORT, --processes N and --process I go together; give all three, or"
            " none where the cluster says them (Cloud TPU, Slurm, Open MPI, Kubernetes)"
        )
    met = threading.Event()
    where = f"at {coordinator} " if coordinator else ""

    def wait() -> None:
        if not met.wait(meeting.start):
            print(
                f"{pathlib.Path(sys.argv[0]).name}: not all processes came together {where}within"
                f" {meeting.start:g} s; start the same command for every one of them, with the same"
                " --coordinator and --processes and a --process of its own, or raise"
                " --start-timeout",
                file=sys.stderr,
            )  # from here, since JAX would abort
            _exit(2)

    threading.Thread(target=wait, name="start", daemon=True).start()
    try:
        if coordinator is not None and process:
            _await_port(coordinator)
        jax.distributed.initialize(
            *given,
            initialization_timeout=round(meeting.start) + 60,
            heartbeat_timeout_seconds=2
            * (round(meeting.silence) + 20),  # sent every half of it: the last may be so old
            shutdown_timeout_seconds=300,
            coordinator_bind_address=bind,
        )
    except Exception as error:
        if coordinator is None and "should be defined" in str(error):
            raise UserError(
                "--distributed found no cluster that says who takes part (Cloud TPU, Slurm, Open"
                " MPI, Kubernetes); give --coordinator HOST:PORT, --processes N and --process I"
            ) from error
        raise UserError(f"cannot join the other processes {where}: {_first_line(error)}") from error
    finally:
        met.set()


def _check(coordinator: str, processes: int, process: int) -> None:
    host, _, port = coordinator.rpartition(":")
    if not host or whole_number(port, Range(1, 65535, "[]")) is None:
        raise UserError(
            f"--coordinator is {coordinator!r}; expected HOST:PORT of process 0, as in"
            " 10.0.0.1:8476"
        )
    if processes < 1 or not 0 <= process < processes:
        raise UserError(
            f"--process is {process} and --processes {processes}; processes are numbered from 0 to"
            " one less"
        )


def _address_to_bind(coordinator: str) -> str | None:
    """Where process 0 listens: at the address of this machine that the coordinator's name leads to,
    since whoever reaches the port may write to it. None is every address: where the name leads to
    none of this machine (that of a Kubernetes service), or a host's own name to the loopback
    (Debian's /etc/hosts), where the others would not find it. Raises UserError for a port that is
    taken."""
    host, _, port = coordinator.rpartition(":")
    host, named = host.strip("[]"), []
    with contextlib.suppress(socket.gaierror):
        named = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    for family, _, _, _, address in sorted(named, key=lambda one: one[0] != socket.AF_INET):
        own = ipaddress.ip_address(address[0])
        if own.is_loopback and host not in ("localhost", str(own)):
            continue
        if _can_bind(family, address):
            return f"[{own}]:{port}" if own.version == 6 else f"{own}:{port}"
    family = socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET
    _can_bind(family, ("", int(port)))
    return None


def _can_bind(family: int, address: tuple) -> bool:
    """Whether the address is one of this machine. Raises UserError where its port is taken."""
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                return False
            raise UserError(
                f"port {address[1]} of --coordinator cannot be used: {error.strerror}; take another"
            ) from error
    return True


def _await_port(coordinator: str) -> None:
    """Until process 0 listens: JAX would ask for long and then abort."""
    host, _, port = coordinator.rpartition(":")
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except socket.gaierror as error:
            raise UserError(
                f"--coordinator {coordinator}: no host {host!r}; give that of process 0"
            ) from error
        except OSError:
            time.sleep(0.2)


class Peers:
    """Says that this process is alive, and ends it when it hears that another is not."""

    def __init__(self, silence: float):
        from jax._src import (
            distributed,  # the store has no public name; Orbax takes it from here too
        )

        joined = distributed.global_state
        if joined.client is None or joined.coordinator_address is None:
            raise RuntimeError("this process has not joined others")
        self._store, self._coordinator = joined.client, joined.coordinator_address
        self._own, self._all = joined.process_id, joined.num_processes
        self._silence, self._every = silence, min(1.0, silence / 5)
        self._seen = {peer: ("", time.monotonic()) for peer in range(self._all)}
        self._answered = time.monotonic()
        self._closed = threading.Event()
        _linger_on_abort()
        self._threads = [
            threading.Thread(target=t, name="peers", daemon=True)
            for t in (self._speak, self._listen)
        ]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """To be called by all before any of them ends."""
        self._closed.set()

    def tell(self, reason: str) -> None:
        """Says to the others that this process ends, and why."""
        self._closed.set()
        with contextlib.suppress(Exception):
            self._store.key_value_set(
                f"{GONE}{self._own}", f"ended: {reason}", allow_overwrite=True
            )
        if self._own == 0:
            time.sleep(2 * self._every)  # the store ends with this process; let them read it

    def hear(self) -> None:
        """Waits for as long as it can take to hear that another process is gone, which ends this
        one."""
        time.sleep(self._silence + 5 * self._every)

    def _speak(self) -> None:
        """Over and over: alive; and what of the others process 0 has found out. It may wait for
        ever if process 0 is gone."""
        beat = 0
        name = f"{socket.gethostname()}, pid {os.getpid()}"
        while not self._closed.wait(self._every):
            beat += 1
            try:
                self._store.key_value_set(
                    f"{ALIVE}{self._own}", f"{name}, {beat}", allow_overwrite=True
                )
                gone = self._store.key_value_dir_get(GONE)
                alive = self._store.key_value_dir_get(ALIVE) if self._own == 0 else []
            except Exception:
                continue
            self._answered = time.monotonic()
            for key, value in alive:
                peer = int(key.rpartition("/")[2])
                if value != self._seen[peer][0]:
                    self._seen[peer] = (value, self._answered)
            for key, reason in gone:
                self._end(int(key.rpartition("/")[2]), reason)

    def _listen(self) -> None:
        """Ends this process where process 0 no longer answers or, in it, where another has been
        silent for too long."""
        while not self._closed.wait(self._every / 2):
            now = time.monotonic()
            waited = now - self._answered
            if self._own and waited > self._silence:
                self._end(0, f"no answer from {self._coordinator} for {self._silence:g} s")
            if self._own and waited > 1.5 * self._every and not self._reachable():
                self._end(0, f"nobody listens at {self._coordinator}")
            if self._own:
                continue
            for peer, (name, at) in self._seen.items():
                if peer and now - at > self._silence and now - self._answered < 2 * self._every:
                    reason = f"no sign of life for {self._silence:g} s ({name.rpartition(', ')[0]})"
                    with contextlib.suppress(Exception):
                        self._store.key_value_set(f"{GONE}{peer}", reason, allow_overwrite=True)
                    time.sleep(2 * self._every)
                    self._end(peer, reason)

    def _reachable(self) -> bool:
        """Whether anybody listens where process 0 does; what merely takes long does not count."""
        host, _, port = self._coordinator.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
        except ConnectionRefusedError:
            return False
        except OSError:
            pass
        return True

    def _end(self, peer: int, reason: str) -> NoReturn:
        if self._closed.is_set():
            threading.Event().wait()  # this process is ending as it is
        print(
            f"process {peer} of {self._all} is gone: {reason}; process {self._own} ends too, and"
            " the same command, on as many processes or others, goes on from the last checkpoint",
            file=sys.stderr,
            flush=True,
        )
        _exit(STATUS)


def _linger_on_abort() -> None:
    """JAX aborts the process as soon as process 0 no longer answers. The signal number of an abort,
    6, is now slept, in seconds, by the thread that aborts, by the C library's own `sleep`: time for
    another to say why."""
    with contextlib.suppress(Exception):
        library = ctypes.CDLL(None)
        library.signal.argtypes, library.signal.restype = (
            [ctypes.c_int, ctypes.c_void_p],
            ctypes.c_void_p,
        )
        library.signal(signal.SIGABRT, ctypes.cast(library.sleep, ctypes.c_void_p))
