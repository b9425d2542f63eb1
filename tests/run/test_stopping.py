import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from unet_jax.run import stopping


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_the_first_signal_is_collected_and_the_second_interrupts(
    number, code, monkeypatch
):
    monkeypatch.setattr(stopping, "REPEAT", 0.0)
    before = signal.getsignal(number)
    with stopping.catch_signals() as received:
        assert not stopping.should_stop(received, 1)
        os.kill(os.getpid(), number)
        assert stopping.should_stop(received, 2)
        assert stopping.exit_code(received) == code
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before


def test_the_same_request_may_come_twice():
    """From SLURM, which signals every process of a job, and from a sweep."""
    with stopping.catch_signals() as received:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert received == [signal.SIGTERM]


def test_a_thread_trains_without_signals():
    """As in a web application: only the main thread may set handlers."""

    def ask():
        with stopping.catch_signals() as received:
            return received

    with ThreadPoolExecutor() as threads:
        assert threads.submit(ask).result() == []
