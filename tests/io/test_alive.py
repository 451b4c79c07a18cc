"""Tokens of processes that live and of those that do not."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time

from segpipe.io.alive import TOKEN, acting_as, is_gone, new_token


def test_a_token_of_this_process_is_alive_and_each_is_new() -> None:
    first, second = new_token(), new_token()
    assert first != second and not is_gone(first)
    assert re.fullmatch(TOKEN, first)


def test_a_process_that_has_ended_is_gone_even_before_its_parent_has_noticed() -> None:
    code = "from segpipe.io.alive import new_token; print(new_token())"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    token = process.stdout.read().strip()
    process.stdout.close()
    end = time.monotonic() + 30
    while not is_gone(token) and time.monotonic() < end:  # it has closed its output, and ends in a moment
        time.sleep(0.01)
    assert is_gone(token)
    process.wait()
    assert is_gone(token)


def test_nothing_is_known_of_another_machine_or_of_any_other_text() -> None:
    _, process, digits = new_token().split("-")
    assert not is_gone(f"00000000-{process}-{digits}")
    assert not is_gone("") and not is_gone("segpipe")


def test_who_works_for_another_process_uses_the_name_that_it_was_given_and_only_meanwhile() -> None:
    given = new_token()
    with acting_as(given):
        assert [new_token(), new_token()] == [given, given]
        seen: list[str] = []
        other = threading.Thread(target=lambda: seen.append(new_token()))
        other.start()
        other.join()
        assert seen != [given]  # another thread works for itself
    assert new_token() != given
