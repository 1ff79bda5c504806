"""What keeps Ctrl-C from the moments in which it would do harm."""

from __future__ import annotations

import signal
import threading

import pytest

from graphnorms.lab.engines.worker import interrupts_held_back


def test_ctrl_c_comes_when_the_block_has_ended():
    handler = signal.getsignal(signal.SIGINT)
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts_held_back():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        # Another thread takes it, as one that does not block it may.
        other = threading.Thread(target=signal.raise_signal, args=(signal.SIGINT,))
        other.start()
        other.join()
        reached.append("the end")
    assert reached == ["the end"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_without_ctrl_c_everything_is_as_before():
    handler = signal.getsignal(signal.SIGINT)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with interrupts_held_back():
        assert signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    assert signal.getsignal(signal.SIGINT) is handler
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == mask


def test_other_threads_may_use_it_too():
    errors = []

    def use():
        try:
            with interrupts_held_back():
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert errors == []
