"""Starts the placement process and the workers, starts again what dies, passes signals on.

It has no event loop and no threads, so a child is a fork of a process that has everything imported
and nothing running. When this process dies its children see it and drain.
"""

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from kvproxy.ops.logs import set_up
from kvproxy.ops.systemd import notify
from kvproxy.reload import Load
from kvproxy.settings.cautions import cautions
from kvproxy.settings.diff import taken_over
from kvproxy.settings.errors import SettingsError
from kvproxy.settings.model import Settings
from kvproxy.workers.children import place, serve

log = logging.getLogger("kvproxy.supervise")

_PLACEMENT = "placement"
# A child that lived longer than this is restarted at once, others wait, twice as long each time.
_SETTLED_S = 10.0
_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.05, 10.0
# How long children have to end on their own beyond the grace of the answers under way.
_MARGIN_S = 10.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)

Run = Callable[[socket.socket], int]


@dataclass(slots=True)
class Child:
    """A process there should be. `life` is closed when either side dies."""

    name: str
    run: Run
    pid: int = 0
    life: socket.socket | None = None
    began_at: float = 0.0
    due_at: float = 0.0
    failures: int = 0
    ready: str = ""


@dataclass(slots=True)
class Supervisor:
    """run() returns the exit status. `grace_s` is what workers are given at the end."""

    children: list[Child]
    grace_s: float
    say_ready: Callable[[str], None]
    reload: Callable[[], None] = lambda: None
    _selector: selectors.DefaultSelector = field(default_factory=selectors.DefaultSelector)
    _began: bool = False
    _stopping: bool = False
    _failed: bool = False
    _until: float = inf

    def run(self) -> int:
        with self._signals() as wake:
            self._selector.register(wake, selectors.EVENT_READ, None)
            self._start(self.children[0])
            while not self._failed and not (self._stopping and not self._alive()):
                for key, _ in self._selector.select(self._timeout_s()):
                    if key.data is None:
                        self._signalled(wake.recv(4096))
                    else:
                        self._told(key.data)
                self._start_due()
                if time.monotonic() >= self._until:
                    log.error("workers did not end in time: they are killed")
                    self._kill()
            if self._failed:
                self._kill()
                return 1
            self._stop_placement()
        return 0

    def _alive(self) -> bool:
        """Whether a worker is; the placement process goes last."""
        return any(child.pid for child in self.children[1:])

    def _timeout_s(self) -> float | None:
        due = [child.due_at for child in self.children if child.due_at and not self._stopping]
        first = min([*due, self._until])
        return None if first == inf else max(0.0, first - time.monotonic())

    def _start_due(self) -> None:
        now = time.monotonic()
        for child in self.children:
            if child.due_at and child.due_at <= now and not self._stopping:
                self._start(child)

    def _start(self, child: Child) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        # A signal to the child that finds our handlers there would be told to us.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        ends: tuple[socket.socket, ...] = ()
        try:
            ours, theirs = ends = socket.socketpair()
            pid = os.fork()
        except OSError as error:
            # Others run on: it comes when the system has room for it.
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            for end in ends:
                end.close()
            child.failures += 1
            log.error("no %s: %s; again in %.2f s", child.name, error.strerror, _put_off(child))
            return
        if pid == 0:
            status = 1
            try:
                signal.set_wakeup_fd(-1)
                for number in _SIGNALS:
                    signal.signal(number, signal.SIG_DFL)
                for number in (signal.SIGINT, signal.SIGHUP):
                    signal.signal(number, signal.SIG_IGN)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
                # Copies of these would keep the others from seeing the end of this process.
                for other in (ours, *(each.life for each in self.children)):
                    if other is not None:
                        other.close()
                status = child.run(theirs)
            except BaseException:
                log.exception("%s failed", child.name)
            finally:
                sys.stderr.flush()
                os._exit(status)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        theirs.close()
        child.pid, child.life, child.ready = pid, ours, ""
        child.began_at, child.due_at = time.monotonic(), 0.0
        self._selector.register(ours, selectors.EVENT_READ, child)

    def _told(self, child: Child) -> None:
        """A child says where it listens, or its end of the line is closed: it is dying."""
        if child.life is None:
            return
        said = child.life.recv(4096)
        if not said:
            self._hang_up(child)
            return
        child.ready = said.decode()
        if self._began:
            log.info("%s is back (pid %d)", child.name, child.pid)
        elif child is self.children[0]:
            for worker in self.children[1:]:
                self._start(worker)
        elif all(worker.ready for worker in self.children):
            self._began = True
            self.say_ready(child.ready)

    def _hang_up(self, child: Child) -> None:
        if child.life is not None:
            self._selector.unregister(child.life)
            child.life.close()
            child.life = None

    def _signalled(self, numbers: bytes) -> None:
        for number in numbers:
            if number == signal.SIGCHLD:
                self._reap()
            elif number == signal.SIGHUP:
                self._reload()
            elif not self._stopping:
                self._stop()
            elif number in (signal.SIGTERM, signal.SIGINT):
                # A second signal means now.
                self._kill()
                signal.signal(number, signal.SIG_DFL)
                os.kill(os.getpid(), number)

    def _reap(self) -> None:
        for child in self.children:
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if not pid:
                continue
            self._hang_up(child)
            child.pid = 0
            if self._stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if not self._began:
                log.error("%s ended with %d before it was ready", child.name, code)
                self._failed = True
                return
            settled = time.monotonic() - child.began_at > _SETTLED_S
            child.failures = 0 if settled else child.failures + 1
            log.error(
                "%s ended with %d; it starts again in %.2f s", child.name, code, _put_off(child)
            )

    def _reload(self) -> None:
        """Each process reads its settings itself; children to come begin with what is read here."""
        self.reload()
        for child in self.children:
            if child.pid and child.ready:
                os.kill(child.pid, signal.SIGHUP)

    def _stop(self) -> None:
        self._stopping = True
        notify("STOPPING=1")
        for child in self.children[1:]:
            if child.pid:
                os.kill(child.pid, signal.SIGTERM)
        self._until = time.monotonic() + self.grace_s + _MARGIN_S

    def _stop_placement(self) -> None:
        placement = self.children[0]
        if placement.pid:
            os.kill(placement.pid, signal.SIGTERM)
            until = time.monotonic() + _MARGIN_S
            while not os.waitpid(placement.pid, os.WNOHANG)[0]:
                if time.monotonic() > until:
                    os.kill(placement.pid, signal.SIGKILL)
                time.sleep(0.01)
            placement.pid = 0

    def _kill(self) -> None:
        for child in self.children:
            if child.pid:
                os.kill(child.pid, signal.SIGKILL)
                os.waitpid(child.pid, 0)
                child.pid = 0

    @contextmanager
    def _signals(self) -> Iterator[socket.socket]:
        """A socket that gets a byte for each signal."""
        read, write = socket.socketpair()
        write.setblocking(False)
        read.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in _SIGNALS}
        was = signal.set_wakeup_fd(write.fileno())
        try:
            yield read
        finally:
            signal.set_wakeup_fd(was)
            for number, handler in before.items():
                signal.signal(number, handler)
            read.close()
            write.close()


def _put_off(child: Child) -> float:
    """Seconds until it starts again, longer after each failure."""
    # No power that grows for hours: it would be no float some day.
    delay_s = min(_LONGEST_DELAY_S, _FIRST_DELAY_S * 2.0 ** min(child.failures, 16))
    child.due_at = time.monotonic() + delay_s
    return delay_s


def reserve(host: str, port: int) -> tuple[list[socket.socket], int]:
    """Sockets that keep the port for workers to share, and its number. Raises OSError where
    somebody listens already, even one who would share."""
    holders: list[socket.socket] = []
    try:
        kind, passive = socket.SOCK_STREAM, socket.AI_PASSIVE
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=kind, flags=passive):
            for sharing in (False, True):
                holder = socket.socket(family, kind)
                holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    holder.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                if sharing:
                    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                    holders.append(holder)
                try:
                    holder.bind((address[0], port, *address[2:]))
                    port = holder.getsockname()[1]
                finally:
                    if not sharing:
                        holder.close()
    except OSError:
        for holder in holders:
            holder.close()
        raise
    return holders, port


def run(settings: Settings, load: Load | None = None) -> int:
    """`kvproxy serve` with workers: returns when told to stop and drained. SIGHUP has `load` read
    again."""
    set_up(settings.log.level, settings.log.format)
    for caution in cautions(settings):
        log.warning(caution)
    server = settings.server
    try:
        holders, port = reserve(server.host, server.port)
    except OSError as error:
        sys.stderr.write(f"cannot listen on {server.host}:{server.port}: {error.strerror}\n")
        return 1
    current = settings.model_copy(update={"server": server.model_copy(update={"port": port})})

    def reload() -> None:
        nonlocal current
        # What is wrong with them is said by those who read them too.
        with contextlib.suppress(SettingsError):
            current = taken_over(current, load() if load is not None else current)

    def ready(url: str) -> None:
        sys.stdout.write(f"ready {url}\n")
        sys.stdout.flush()
        notify("READY=1", f"STATUS=listening on {url}")

    try:
        folder = tempfile.TemporaryDirectory(prefix="kvproxy-")
    except OSError as error:
        for holder in holders:
            holder.close()
        sys.stderr.write(
            f"server.workers need a folder to meet in: {error.strerror}: make /tmp, or what TMPDIR "
            "names, a place that can be written to (a container: a tmpfs)\n"
        )
        return 1
    with folder as name:
        at = Path(name)
        children = [Child(_PLACEMENT, lambda life: place(current, at, load, life))]
        children += [
            Child(f"worker {number}", lambda life: serve(current, at, load, life))
            for number in range(server.workers)
        ]
        # What is imported is shared with the children as long as nobody writes to it.
        gc.freeze()
        status = Supervisor(children, server.ends_in_s, ready, reload).run()
    for holder in holders:
        holder.close()
    return status
