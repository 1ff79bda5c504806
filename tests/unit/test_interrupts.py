"""What keeps Ctrl-C from the moments in which it would do harm."""

from __future__ import annotations

import signal
import threading

import pytest

from graphnorms.interrupts import held_back


def test_ctrl_c_comes_when_the_block_has_ended():
    handler = signal.getsignal(signal.SIGINT)
    reached = []
    with pytest.raises(KeyboardInterrupt), held_back():  # noqa: PT012
        signal.raise_signal(signal.SIGINT)
        other = threading.Thread(target=signal.raise_signal, args=(signal.SIGINT,))
        other.start()
        other.join()
        reached.append("the end")
    assert reached == ["the end"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_other_threads_may_use_it_too():
    errors = []

    def use():
        try:
            with held_back():
                pass
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert errors == []
