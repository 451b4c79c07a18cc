"""How many copies of the networks go where."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segpipe.errors import ConfigError
from segpipe.inference.cluster.room import Node, Wish, in_flight, no_room, plan_seats, wants_gpu


def counted(nodes: list[Node], wish: Wish) -> dict[str, list[int]]:
    """Cores of each copy, by node."""
    found: dict[str, list[int]] = {}
    for seat in plan_seats(nodes, wish):
        found.setdefault(seat.node.id, []).append(seat.cpus)
    return found


def test_a_small_node_has_one_copy_with_all_cores_but_one_and_a_large_one_several() -> None:
    nodes = [Node("a", "a", 4), Node("b", "b", 64), Node("head", "head", 0), Node("tiny", "tiny", 1)]
    assert counted(nodes, Wish()) == {"a": [3], "b": [7] * 8}


def test_threads_decide_how_many_fit() -> None:
    assert counted([Node("a", "a", 9), Node("b", "b", 4)], Wish(threads=4)) == {"a": [4, 4]}
    assert counted([Node("a", "a", 4)], Wish(threads=3)) == {"a": [3]}


def test_workers_are_spread_evenly_and_share_what_there_is() -> None:
    nodes = [Node("a", "a", 16), Node("b", "b", 16)]
    assert counted(nodes, Wish(workers=1)) == {"a": [15]}
    assert counted(nodes, Wish(workers=5)) == {"a": [5, 5, 5], "b": [7, 7]}
    assert [seat.node.id for seat in plan_seats(nodes, Wish(workers=3))] == ["a", "b", "a"]
    assert len(plan_seats(nodes, Wish(workers=99))) == 30


def test_a_gpu_each_with_one_core_and_none_on_nodes_without() -> None:
    nodes = [Node("a", "a", 16, gpus=4), Node("b", "b", 16), Node("c", "c", 3, gpus=4)]
    assert counted(nodes, Wish(gpu=True)) == {"a": [1] * 4, "c": [1, 1]}
    assert counted(nodes, Wish(gpu=True, threads=5)) == {"a": [5] * 3}


def test_memory_limits_them_too() -> None:
    assert counted([Node("a", "a", 64, memory_gb=10)], Wish(memory_gb=4)) == {"a": [31, 31]}
    assert not plan_seats([Node("a", "a", 64, memory_gb=3)], Wish(memory_gb=4))
    assert "4 GB of memory" in no_room(Wish(memory_gb=4)) and "--memory-gb" in no_room(Wish(memory_gb=4))


@given(
    st.lists(st.tuples(st.integers(0, 70), st.integers(0, 8)), max_size=6),
    st.integers(0, 80),
    st.integers(0, 12),
    st.booleans(),
    st.randoms(),
)
def test_every_node_keeps_a_core_to_read_and_write_whatever_is_asked_for(
    sizes: list[tuple[int, int]], workers: int, threads: int, gpu: bool, rng: object
) -> None:
    nodes = [Node(str(number), f"n{number}", cpus, gpus) for number, (cpus, gpus) in enumerate(sizes)]
    seats = plan_seats(nodes, Wish(workers, threads, gpu))
    used = Counter[str]()
    for seat in seats:
        assert seat.cpus >= 1
        used[seat.node.id] += seat.cpus
    assert all(used[node.id] <= max(0, node.cpus - 1) for node in nodes)
    assert len({(seat.node.id, seat.number) for seat in seats}) == len(seats)
    assert not workers or len(seats) <= workers
    shuffled = list(nodes)
    rng.shuffle(shuffled)  # type: ignore[attr-defined]
    assert plan_seats(shuffled, Wish(workers, threads, gpu)) == seats  # the same cluster, the same plan


def test_auto_takes_gpus_where_there_are_any_and_a_numbered_one_is_refused() -> None:
    plain, fast = [Node("a", "a", 4)], [Node("a", "a", 4, gpus=1)]
    assert [wants_gpu("auto", plain), wants_gpu("auto", fast), wants_gpu("cpu", fast), wants_gpu("cuda", fast)] == [
        False,
        True,
        False,
        True,
    ]
    with pytest.raises(ConfigError, match="no node of the Ray cluster has a GPU"):
        wants_gpu("cuda", plain)
    with pytest.raises(ConfigError, match="Ray chooses which GPU"):
        wants_gpu("cuda:1", fast)


def test_few_scans_are_on_their_way_at_a_time() -> None:
    assert in_flight(0, 100) == 0
    assert in_flight(2, 2) == 6
    assert in_flight(1, 100) == 8
    assert in_flight(100, -3) == 200
