"""The engine's log, in `logging` under `portway`.

The level is the one that the logger `portway` has when the first engine is made.
"""

from __future__ import annotations

import logging
import threading

from . import _native

_lock = threading.Lock()
_users = 0
_thread: threading.Thread | None = None


def _pump() -> None:
    while (records := _native.log_records()) is not None:
        for name, level, text in records:
            logging.getLogger(name).log(level, "%s", text)


def start() -> None:
    """One more engine logs."""
    global _users, _thread
    with _lock:
        _users += 1
        if _thread is None:
            _native.log_start(min(logging.getLogger("portway").getEffectiveLevel(), 50))
            _thread = threading.Thread(target=_pump, name="portway-log", daemon=True)
            _thread.start()


def stop() -> None:
    """One engine less; the last one ends the thread, once all that was logged is passed on."""
    global _users, _thread
    with _lock:
        _users -= 1
        if _users == 0 and _thread is not None:
            _native.log_stop()
            _thread.join()
            _thread = None


def forget() -> None:
    """After a fork the thread is not here."""
    global _lock, _users, _thread
    _lock, _users, _thread = threading.Lock(), 0, None
