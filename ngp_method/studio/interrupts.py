"""Ctrl-C and SIGTERM at a point where a run's state is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Optional

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """A context that turns SIGINT and SIGTERM into a request to stop.

    While *held* (state is being changed) the first signal calls ``on_request`` only; otherwise, and at the second
    signal, KeyboardInterrupt is raised where the program is. Outside the main thread Python has no handlers, and the
    context does nothing.

    Attributes:
        received: number of the signal that came, or None.
        torn: True if KeyboardInterrupt was raised while held, so that the state may be half changed.
    """

    def __init__(self, on_request: Callable[[], None]) -> None:
        self.on_request = on_request
        self.received: Optional[int] = None
        self.torn = False
        self._held = False
        self._old: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        self.received, self.torn, self._held = None, False, False
        if threading.current_thread() is threading.main_thread():
            self._old = {number: signal.signal(number, self._on_signal) for number in SIGNALS}
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

    def hold(self) -> None:
        """From here on the state is being changed."""
        self._held = True

    @contextmanager
    def open(self) -> Iterator[None]:
        """Within it nothing changes the state, and a signal takes effect at once."""
        held, self._held = self._held, False
        try:
            yield
        finally:
            self._held = held

    def ignore(self) -> None:
        """Signals are passed over until the context ends: for the last save."""
        for number in self._old:
            signal.signal(number, signal.SIG_IGN)

    def _on_signal(self, number: int, frame: Optional[FrameType]) -> None:
        again = self.received is not None
        self.received = number
        if self._held and not again:
            self.on_request()
            return
        self.torn = self._held
        raise KeyboardInterrupt
