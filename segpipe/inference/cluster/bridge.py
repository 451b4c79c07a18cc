"""A process between the command and a Ray cluster: does what it is told (see `fleet`) and tells what is heard from the cluster.

Ray prints to standard output and standard error, changes signal handlers, and ends its process when the cluster is gone; all that stays
here. Nothing is reported to anybody: Ray's usage statistics are off in this process. Ray sends the current folder to every node as a
place to import from, so that this process leaves it first.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import logging
import os
import queue
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any, BinaryIO, Protocol

from segpipe.errors import ConfigError
from segpipe.inference.cluster import entries
from segpipe.inference.cluster.faults import lost
from segpipe.inference.cluster.order import ClusterOrder
from segpipe.inference.messages import Message, Order, error_to_json, send
from segpipe.inference.worker import converse

_WAIT_SECONDS = 0.05
"""For the cluster to say something, before the command is heard again."""
_LOOK_SECONDS = 5.0
"""Between looks at which nodes there are."""
_REACH_SECONDS = 5.0
"""For a cluster to take a connection; Ray itself tries for minutes."""


_JOIN_SECONDS = 60.0
"""For a node to let the command join, on a machine that is very busy."""
_CURE = "start one with `ray start --head`, or give --ray-address HOST:PORT"

_OWN_NODE = "the Ray node of this machine has ended: start it again, then give the same command again"


class Says(Protocol):
    """Tells the command one thing."""

    def __call__(self, message: Message) -> None: ...


def main() -> None:
    """Serve the command at the other end of standard input and output, until it closes them or says `leave`."""
    converse(_serve)


def _serve(order: Message, inbox: queue.Queue[Message], outbox: BinaryIO) -> None:
    def say(message: Message) -> None:
        send(outbox, message)

    wanted = ClusterOrder(**order)
    try:
        with _patience(wanted.address, say):
            ray = connect(wanted.address, quiet=wanted.level > logging.DEBUG)
        bridge = Bridge(ray, wanted, say)
        while bridge.step(inbox):
            pass
        ray.shutdown()
    except BrokenPipeError:
        raise
    except Exception as error:
        say({"refused": error_to_json(error, False)})
        while "leave" not in inbox.get():  # so that the command reads this and not an end
            pass
    os._exit(0)  # what Ray has left running in this process does not count


@contextlib.contextmanager
def _patience(address: str, say: Says) -> Iterator[None]:
    """Give up a cluster that has gone and has left its address behind."""

    def give_up() -> None:
        text = f"--ray-address {address}: no Ray cluster has answered for {_JOIN_SECONDS:g} s: {_CURE}"
        say({"refused": error_to_json(ConfigError(text), False)})

    timer = threading.Timer(_JOIN_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def connect(address: str, quiet: bool = True) -> Any:
    """Join a cluster that runs; gives the module `ray`.

    Args:
        quiet: what Ray prints is of interest to nobody.

    Raises:
        ConfigError: Ray is not installed, there is no cluster, or it is one of another Ray.
    """
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    os.chdir(os.sep)
    if quiet:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os.dup2(2, 1)
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise ConfigError("--engine ray needs Ray: pip install 'segpipe[ray]', here and on every node") from error
    _check_address(address)
    try:
        ray.init(address=address, log_to_driver=False, configure_logging=False, logging_level=logging.CRITICAL)
    except ConnectionError as error:
        raise ConfigError(f"--ray-address {address}: no Ray cluster runs on this machine: {_CURE}") from error
    except Exception as error:
        raise ConfigError(f"--ray-address {address}: the Ray cluster cannot be joined: {' '.join(str(error).split())}") from error
    return ray


def _check_address(address: str) -> None:
    """Refuse one where nobody listens: Ray itself tries for minutes.

    Raises:
        ConfigError: no cluster can be there.
    """
    if "://" in address:
        raise ConfigError(f"--ray-address is {address}; must be auto or HOST:PORT, and the command must run on a node of the cluster")
    where = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    if where == "auto":
        return
    host, _, port = where.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _REACH_SECONDS).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"--ray-address {address}: no Ray cluster answers at {where} ({reason}): {_CURE}") from error


class Bridge:
    """What runs on the cluster for one command.

    Args:
        ray: the module.
    """

    def __init__(self, ray: Any, order: ClusterOrder, say: Says) -> None:
        self._ray, self._order, self._say = ray, order, say
        self._networks = ray.remote(max_restarts=0, max_task_retries=0)(entries.Networks)
        self._read, self._write = (ray.remote(num_cpus=1, max_retries=0)(one) for one in (entries.read, entries.write))
        self._affinity = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        self._self = ray.get_runtime_context().get_node_id()
        self._actors: dict[int, Any] = {}
        self._jobs: dict[int, Any] = {}
        self._parcels: dict[int, Any] = {}
        self._expecting: set[int] = set()
        self._kit: Any = None
        self._next_look = 0.0

    def step(self, inbox: queue.Queue[Message]) -> bool:
        """Do what the command has said, tell what the cluster has said; False when the command has had enough."""
        self._look()
        while not inbox.empty():
            ((what, told),) = inbox.get().items()
            if what == "leave":
                return False
            getattr(self, f"_do_{what}")(told)
        if self._jobs:
            self._hear()
        else:
            time.sleep(_WAIT_SECONDS)
        return True

    def _look(self) -> None:
        """Tell which nodes there are.

        Raises:
            ConfigError: that of this machine is none any more.
        """
        if time.monotonic() < self._next_look:
            return
        self._next_look = time.monotonic() + _LOOK_SECONDS
        alive = [node for node in self._ray.nodes() if node["Alive"]]
        if self._self not in {node["NodeID"] for node in alive}:
            raise ConfigError(_OWN_NODE)
        self._say({"nodes": [_node(node) for node in alive]})

    def _do_start(self, told: Message) -> None:
        """Load the models on a node."""
        options = {"num_cpus": told["cpus"], "num_gpus": int(told["gpu"]), "scheduling_strategy": self._affinity(told["node"], soft=False)}
        if self._order.memory_gb:
            options["memory"] = int(self._order.memory_gb * 1e9)
        actor = self._networks.options(**options).remote()
        own = {field.name: getattr(self._order, field.name) for field in dataclasses.fields(Order)}
        order = {**own, "threads": told["cpus"], "device": "cuda" if told["gpu"] else "cpu"}
        self._actors[told["actor"]] = actor
        self._jobs[told["job"]] = actor.load.options(num_returns="streaming").remote(order, self._order.version)

    def _do_read(self, told: Message) -> None:
        options = self._read.options(num_returns="streaming", scheduling_strategy="SPREAD")
        self._jobs[told["job"]] = options.remote(self._kit, self._order.version, told)

    def _do_compute(self, told: Message) -> None:
        method = self._actors[told["actor"]].compute.options(num_returns="streaming")
        self._jobs[told["job"]] = method.remote(self._parcels[told["of"]], told)

    def _do_write(self, told: Message) -> None:
        options = self._write.options(num_returns="streaming")
        self._jobs[told["job"]] = options.remote(self._kit, self._order.version, self._parcels[told["of"]], told)

    def _do_drop(self, job: int) -> None:
        """The parcel of a job is not needed any more."""
        self._parcels.pop(job, None)

    def _do_cancel(self, job: int) -> None:
        """End the process of a reading or a writing."""
        if job in self._jobs:
            self._ray.cancel(self._jobs[job], force=True)

    def _do_end(self, actor: int) -> None:
        """End the process of one of the networks."""
        if actor in self._actors:
            self._ray.kill(self._actors.pop(actor), no_restart=True)

    def _hear(self) -> None:
        generators = {id(generator): job for job, generator in self._jobs.items()}
        everything = list(self._jobs.values())
        some, _ = self._ray.wait(everything, timeout=_WAIT_SECONDS, fetch_local=False)
        if some:
            some, _ = self._ray.wait(everything, num_returns=len(everything), timeout=0, fetch_local=False)
        for generator in some:
            self._take(generators[id(generator)], generator)

    def _take(self, job: int, generator: Any) -> None:
        """The next thing that a job has said."""
        try:
            reference = next(generator)
        except StopIteration:
            del self._jobs[job]
            self._say({"of": job, "over": True})
            return
        if job in self._expecting:
            self._expecting.discard(job)
            self._parcels[job] = reference
            return
        try:
            said = self._ray.get(reference)
        except self._ray.exceptions.LocalRayletDiedError as error:
            raise ConfigError(_OWN_NODE) from error
        except self._ray.exceptions.RayError as error:
            del self._jobs[job]
            self._expecting.discard(job)  # what it has left before stays: the command may have gone on with it, and drops it
            self._say({"of": job, "died": dataclasses.asdict(lost(self._ray, error))})
            return
        if "parcel" in said:
            self._expecting.add(job)
            return
        if "passes" in said.get("end", {}):
            self._keep_kit(job)
        self._say({"of": job, "said": said})

    def _keep_kit(self, job: int) -> None:
        """What the first networks have packed for reading and writing is that of all: their facts are compared."""
        parcel = self._parcels.pop(job)
        if self._kit is None:
            self._kit = self._ray.put(self._ray.get(parcel))


def _node(node: Message) -> Message:
    """As `room.Node` has it."""
    has = node["Resources"]
    own = node["NodeName"]
    name = own if own and own != node["NodeManagerAddress"] else node["NodeManagerHostname"]
    return {
        "id": node["NodeID"],
        "name": name,
        "cpus": int(has.get("CPU", 0)),
        "gpus": int(has.get("GPU", 0)),
        "memory_gb": has.get("memory", 0.0) / 1e9,
    }
