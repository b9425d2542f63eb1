import os
import signal

import pytest

from unet_jax.run import stopping


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)]
)
def test_the_first_signal_asks_and_the_second_does_not_wait(number, code):
    before = signal.getsignal(number)
    with stopping.requests() as asked:
        assert not stopping.due(asked, 1)
        os.kill(os.getpid(), number)
        assert stopping.due(asked, 2)
        assert stopping.code(asked) == code
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    assert signal.getsignal(number) is before
