"""Signals end in order what is being done, and go back to whom they belonged."""

import os
import signal
from types import SimpleNamespace

import pytest

from segpipe.training.stop import OrderlyStop

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("number", BOTH)
def test_the_first_signal_asks_to_stop_and_the_handlers_come_back(number: signal.Signals, caplog: pytest.LogCaptureFixture) -> None:
    before, module = signal.getsignal(number), SimpleNamespace(stopped_by="")
    with OrderlyStop(module) as stop:  # type: ignore[arg-type]
        os.kill(os.getpid(), number)
        assert stop.asked
        assert module.stopped_by == number.name
        assert "ending after this step; a usable model follows" in caplog.text
        if number == signal.SIGINT:
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", BOTH)
def test_handlers_that_lightning_has_covered_are_ours_again_when_training_starts(number: signal.Signals) -> None:
    module = SimpleNamespace(stopped_by="")
    with OrderlyStop(module) as stop:  # type: ignore[arg-type]
        signal.signal(number, signal.SIG_IGN)
        stop.on_train_start(None, None)  # type: ignore[arg-type]
        os.kill(os.getpid(), number)
    assert module.stopped_by == number.name


def test_what_comes_next_is_not_ended_by_a_signal_that_came_before(caplog: pytest.LogCaptureFixture) -> None:
    module = SimpleNamespace(stopped_by="")
    with OrderlyStop(module) as stop:  # type: ignore[arg-type]
        os.kill(os.getpid(), signal.SIGTERM)
        stop.turn_to("validating no further case")
        assert not stop.asked
        assert module.stopped_by == "SIGTERM"
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.asked
    assert "SIGTERM: validating no further case" in caplog.text
