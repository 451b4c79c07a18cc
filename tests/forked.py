"""The program in a process of its own that has its imports behind it: forked from one that stands by, for tests that are not about starts.

Five of the six seconds that a training of a few steps takes on a processor are imports. Each process has its own folder, environment,
output and chance, as one that was started has, and so have those of `segpipe` that it starts; what libraries read from the environment when
they are imported is that of the process that stands by. Signals do not reach what is forked: tests of those, and at least one of each
command, start the program.

    python tests/forked.py serve PLACE        stands by at a socket until its standard input ends
    python -S tests/forked.py call PLACE ...  `segpipe ...`, for scripts
"""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PYTHON = """#!/bin/sh
case "$1 $2" in
"-m segpipe" | "-m segpipe.__main__") shift 2; exec {python} -S {file} call {place} "$@" ;;
esac
exec {python} "$@"
"""
"""What forked processes take for the interpreter."""
COMMANDS = ("train", "train_folds", "plan", "preview", "export", "evaluate", "package", "inspect", "convert")
_START_SECONDS = 180


class Standby:
    """A process that stands by, until `close`."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="segpipe-")  # short, as the names of sockets must be
        self.place = Path(self._folder.name) / "socket"
        python = self.place.with_name("python")
        python.write_text(PYTHON.format(python=shlex.quote(sys.executable), file=shlex.quote(__file__), place=shlex.quote(str(self.place))))
        python.chmod(0o700)
        self._process = subprocess.Popen(
            [sys.executable, __file__, "serve", str(self.place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]))},
        )
        end = time.monotonic() + _START_SECONDS
        while not self.place.exists():
            if self._process.poll() is not None or time.monotonic() > end:
                self.close()
                raise RuntimeError("the process that stands by has not begun")
            time.sleep(0.02)

    def close(self) -> None:
        """End it; what it has forked goes on."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._folder.cleanup()

    def run(self, words: list[str], cwd: Path, environment: dict[str, str], timeout: float = 240) -> subprocess.CompletedProcess[str]:
        """As `subprocess.run` of `segpipe WORDS` with captured text.

        Raises:
            TimeoutExpired: it has not ended in time; it is killed.
        """
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as told, Path(os.devnull).open("rb") as nothing:
            try:
                code = call(self.place, words, cwd, environment, (nothing.fileno(), out.fileno(), told.fileno()), timeout)
            except TimeoutError:
                raise subprocess.TimeoutExpired(words, timeout) from None
            texts = []
            for file in (out, told):
                file.seek(0)
                texts.append(file.read().decode())
        return subprocess.CompletedProcess(["segpipe", *words], code, *texts)


def call(
    place: Path, words: list[str], cwd: Path, environment: dict[str, str], files: tuple[int, int, int], timeout: float | None = None
) -> int:
    """The exit code of `segpipe WORDS`, negative for a signal.

    Args:
        files: what it gets as standard input, output and error.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(timeout)
        connection.connect(str(place))
        socket.send_fds(connection, [b"!"], files)
        connection.sendall(json.dumps([words, str(cwd), environment]).encode() + b"\n")
        answer = connection.recv(64)
    if not answer:
        raise RuntimeError(f"the process that was to run segpipe {' '.join(words)} has ended without a word")
    return int(answer)


def serve(place: Path) -> None:
    """Import, then fork until standard input ends. Returns in the forked processes, which are to run the program then."""
    import importlib
    import importlib.util

    import matplotlib.figure  # noqa: F401 - curves and overlays
    import PIL.PngImagePlugin  # noqa: F401

    for name in COMMANDS:
        importlib.import_module(f"segpipe.commands.{name}")
    for name in (
        "segpipe.cli.app",
        "segpipe.config.compose",
        "hydra.core.override_parser.overrides_parser",
        "hydra._internal.hydra",
        "pydantic.type_adapter",
    ):
        importlib.import_module(name)
    threads = len(list(Path("/proc/self/task").iterdir()))
    if threads > 1 and os.environ.get("OMP_NUM_THREADS") == "1":
        raise RuntimeError(f"{threads} threads: a fork would have only one of them")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{place}.new")
    listener.listen()
    Path(f"{place}.new").rename(place)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them here
    while True:
        ready, _, _ = select.select([listener, sys.stdin], [], [])
        if sys.stdin in ready:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            _, files, _, _ = socket.recv_fds(connection, 1, 3)
            with connection.makefile("rb") as stream:
                words, cwd, environment = json.loads(stream.readline())
            process = os.fork()
            if process == 0:
                connection.close()
                sys.executable = str(place.with_name("python"))
                return _become(words, cwd, environment, files)
            _wait(process, connection)
        connection.close()


def _wait(process: int, connection: socket.socket) -> None:
    """Tell its exit code; when nobody wants to know it any more, end it."""
    ended = os.pidfd_open(process)
    ready, _, _ = select.select([ended, connection], [], [])
    if ended not in ready:
        os.kill(process, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    if ended in ready:
        connection.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    os._exit(0)


def _become(words: list[str], cwd: str, environment: dict[str, str], files: list[int]) -> None:
    """Make of this process what `python -m segpipe WORDS` is before it begins."""
    import importlib
    import random

    import numpy as np
    import torch

    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    before = [path for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path and path not in sys.path]
    sys.path[:] = [cwd, *before, *sys.path[1:]]
    sys.modules["__main__"] = importlib.import_module("segpipe.__main__")  # what starts more processes looks at it
    sys.argv = [str(sys.modules["__main__"].__file__), *words]
    random.seed()
    np.random.seed()
    torch.seed()  # or what forgets its seed would give the same in all of them


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(Path(sys.argv[2]))
        from segpipe.cli import main

        main()
    sys.exit(call(Path(sys.argv[2]), sys.argv[3:], Path.cwd(), dict(os.environ), (0, 1, 2)) & 0xFF)
