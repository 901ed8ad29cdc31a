"""The compiled programs of a run, side by side: they compile in threads while the first of them runs.

XLA compiles without holding Python's lock, tracing holds it. So a run traces its programs in the order in which it will
need them, each compiles as soon as it is traced, and whoever calls one waits for that one alone.

Which programs a run needs, and for what shapes, it finds out by rehearsing: it goes through its own code with programs
that do nothing but compile. ``jax.jit`` keeps what was lowered and compiled for arguments like these, so that a call
compiles nothing.
"""

import atexit
import functools
import os
import sys
import threading
import time
import warnings
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import jax
import jax.numpy as jnp

from vrwkv_jax.system.reporter import process_reporter

SILENT = 0.5  # seconds that nobody need be told of
BEHIND_WHAT_RUNS = 10  # niceness: the run goes first

_tracing = threading.Lock()  # two that trace at a time hold up each other
_cores = threading.Semaphore(os.cpu_count() or 1)
_threads: list[threading.Thread] = []
_rehearsal: Future[None] | None = None
_thread = threading.local()


class Program:
    """A jitted function. ``name`` is what the user reads while it compiles, ``once_per`` why there is another of it."""

    def __init__(self, function: Callable[..., Any], name: str, once_per: str, **options: Any):
        functools.update_wrapper(self, function)
        self.name = f"{name} (once per {once_per})"
        self._jitted = jax.jit(function, **options)
        self._started: list[Any] = []  # traces, of which there is one for all arguments of the same shapes
        self._compiling: list[Future[None]] = []
        self._is_foreseen = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if is_rehearsal():
            result = self._rehearse(*args, **kwargs)
            return jax.tree.map(lambda x: jnp.ones(x.shape, x.dtype), result)
        self._catch_up()
        return self._jitted(*args, **kwargs)

    def trace(self, *args: Any, **kwargs: Any) -> Any:
        """As that of a jitted function."""
        self._catch_up()
        return self._jitted.trace(*args, **kwargs)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """As that of a jitted function."""
        return self.trace(*args, **kwargs).lower()

    def shapes(self, *args: Any, **kwargs: Any) -> Any:
        """Those of what it returns. Traces, and waits for nothing that compiles."""
        with _tracing:
            return self._jitted.trace(*args, **kwargs).out_info

    def start(self, arguments: Callable[[], dict[str, Any]]) -> None:
        """In a thread, compiles for ``arguments`` by name, which may be shapes. Calls wait for this, and for no
        rehearsal.
        """
        self._is_foreseen = True
        compiled = Future[None]()
        self._compiling.append(compiled)

        def compile_it() -> None:
            try:
                with _tracing:
                    lowered = self._jitted.trace(**arguments()).lower()
            except BaseException as error:
                compiled.set_exception(error)
            else:
                _compile(lowered, compiled)

        _in_a_thread(compile_it)

    def wait(self) -> None:
        """Until what was started is compiled. Says so if that takes a while, and raises what came of it."""
        while self._compiling:
            _join(self._compiling.pop(), self.name)

    def _rehearse(self, *args: Any, **kwargs: Any) -> Any:
        """Compiles in another thread; returns the shapes of the result."""
        with _tracing:
            traced = self._jitted.trace(*args, **kwargs)
            if any(traced.jaxpr is jaxpr for jaxpr in self._started):
                return traced.out_info
            lowered, compiled = traced.lower(), Future[None]()
        self._started.append(traced.jaxpr)
        self._compiling.append(compiled)

        def compile_it() -> None:
            if sys.platform == "linux":  # where it concerns this thread alone
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BEHIND_WHAT_RUNS)
            _compile(lowered, compiled)

        _in_a_thread(compile_it)
        return traced.out_info

    def _catch_up(self) -> None:
        """Waits for what compiles this program, or may be about to start on it."""
        if is_rehearsal():
            return
        if not self._is_foreseen and _rehearsal is not None:
            _join(_rehearsal, self.name)
        self.wait()


def _compile(lowered: jax.stages.Lowered, compiled: Future[None]) -> None:
    try:
        with _cores:
            lowered.compile()
    except BaseException as error:
        compiled.set_exception(error)
    else:
        compiled.set_result(None)


def program(name: str, once_per: str, **options: Any) -> Callable[[Callable[..., Any]], Program]:
    """``jax.jit`` with these ``options``, as a decorator that makes a ``Program``."""
    return lambda function: Program(function, name, once_per, **options)


def rehearse(run: Callable[[], object]) -> None:
    """Calls ``run`` in a thread in which programs compile instead of running; what they return is ones.

    A program that is called meanwhile waits until it is known whether ``run`` calls it.
    """
    global _rehearsal
    done = _rehearsal = Future[None]()

    def rehearsal() -> None:
        try:
            run()
        except Exception as error:  # what is wrong will be seen again, where it happens in earnest
            warnings.warn(f"nothing more is compiled ahead of its use ({error})", stacklevel=2)
        finally:
            done.set_result(None)

    _in_a_thread(rehearsal)


def is_rehearsal() -> bool:
    """Whether programs compile in this thread instead of running."""
    return getattr(_thread, "is_ahead", False)


def in_progress() -> bool:
    """Whether something is being compiled. Python can't end such a thread, and waits for it before it ends itself."""
    return any(thread.is_alive() for thread in _threads)


@atexit.register
def _finish() -> None:
    """Python must not end while XLA compiles: the process would crash."""
    for thread in _threads:
        thread.join()


def _in_a_thread(run: Callable[[], None]) -> None:
    def ahead() -> None:
        _thread.is_ahead = True
        run()

    thread = threading.Thread(target=ahead, daemon=True)  # which an interruption does not wait for
    _threads[:] = [other for other in _threads if other.is_alive()] + [thread]
    thread.start()


def _join(future: Future[None], name: str) -> None:
    """Waits, and says for what and for how long if that is long; raises what came of it."""
    started = time.perf_counter()
    if not wait([future], SILENT).done:
        with process_reporter().waiting(f"compiling {name}", started) as tick:
            while not wait([future], 0.1).done:
                tick()
    future.result()
