"""Programs that compile in threads: once, in time, and with errors where they are used."""

import subprocess
import sys
import time
from concurrent.futures import Future

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vrwkv_jax.commands.terminal import TERMINAL
from vrwkv_jax.system import compiling
from vrwkv_jax.system.compiling import Program, program, rehearse
from vrwkv_jax.system.reporter import reporting_to


@pytest.fixture(autouse=True)
def logged():
    """jax.log_compiles() is for one thread."""
    jax.config.update("jax_log_compiles", True)
    yield
    jax.config.update("jax_log_compiles", False)


def compilations(caplog, name: str) -> int:
    return sum(f"Finished XLA compilation of jit({name})" in message for message in caplog.messages)


def traces(caplog, name: str) -> int:
    return sum(f"Finished tracing {name} for" in message for message in caplog.messages)


def test_what_was_started_is_neither_traced_nor_compiled_again(caplog):
    @program("the sum", once_per="size", static_argnames="n")
    def total(x: jax.Array, y: dict[str, jax.Array], n: int) -> jax.Array:
        return n * (x + y["y"]).sum()

    total.start(lambda: {"x": jax.ShapeDtypeStruct((3,), jnp.float32), "y": {"y": np.ones(3, np.float32)}, "n": 2})
    assert total(x=jnp.ones(3), y={"y": jnp.ones(3)}, n=2) == 12
    assert total(x=np.ones(3, np.float32), y={"y": jnp.ones(3)}, n=2) == 12
    assert total.lower(x=jnp.ones(3), y={"y": jnp.ones(3)}, n=2).compile() is not None
    assert (traces(caplog, "total"), compilations(caplog, "total")) == (1, 1)
    assert total(x=jnp.ones(4), y={"y": jnp.ones(4)}, n=2) == 16  # what nobody foresaw
    assert compilations(caplog, "total") == 2


def test_a_rehearsal_compiles_what_the_run_calls_and_runs_nothing(caplog):
    ran = []

    @program("the first", once_per="size")
    def first(x: jax.Array) -> jax.Array:
        jax.debug.callback(lambda: ran.append("first"))
        return jnp.sin(x).astype(jnp.bfloat16)

    @program("the second", once_per="size")
    def second(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        jax.debug.callback(lambda: ran.append("second"))
        return x + 1, x.sum()

    def run(x: jax.Array) -> float:
        return float(second(first(x)[:1])[1])

    results = []
    rehearse(lambda: results.append(run(np.zeros(3, np.float32))))
    assert run(jnp.zeros(3)) == 0
    jax.effects_barrier()
    assert results == [1.0] and ran == ["first", "second"]
    assert [compilations(caplog, name) for name in ("first", "second")] == [1, 1]


def test_what_fails_in_a_rehearsal_is_compiled_when_it_is_used():
    @program("the program", once_per="size")
    def triple(x: jax.Array) -> jax.Array:
        return 3 * x

    def run() -> None:
        raise ValueError("out of order")

    with pytest.warns(UserWarning, match=r"nothing more is compiled ahead of its use \(out of order\)"):
        rehearse(run)
        assert triple(jnp.ones(())) == 3


def test_an_error_of_the_compiler_comes_out_where_the_program_is_used(monkeypatch):
    @program("the program", once_per="size")
    def double(x: jax.Array) -> jax.Array:
        return 2 * x

    def compile(self) -> None:
        raise RuntimeError("the compiler gave up")

    with monkeypatch.context() as patch:
        patch.setattr(jax.stages.Lowered, "compile", compile)
        double.start(lambda: {"x": jnp.ones(())})
        with pytest.raises(RuntimeError, match="the compiler gave up"):
            double(x=jnp.ones(()))


def test_waiting_is_said(monkeypatch, capsys):
    """Plain lines where stderr is no terminal, and nothing of what takes no time."""
    monkeypatch.setattr(compiling, "SILENT", 0.1)
    waiting, done = Program(lambda: 0, "a step", "size"), Future()
    waiting._compiling.append(done)
    compiling._in_a_thread(lambda: (time.sleep(1.2), done.set_result(None)))
    with reporting_to(TERMINAL):
        assert waiting() == 0
    assert capsys.readouterr().err == "compiling a step (once per size) ...\ncompiling a step (once per size) ... 1 s\n"
    waiting._compiling.append(done)
    assert waiting() == 0 and capsys.readouterr().err == ""


SCRIPT = """
import sys, types
import jax, jax.numpy as jnp
from vrwkv_jax.system.compiling import program
from vrwkv_jax.commands.cli import run_module

@program("many products", once_per="size")
def slow(x):
    for i in range(3000):
        x = jnp.sin(x @ x + i)
    return x

def main():
    slow.start(lambda: {"x": jnp.ones((8, 8))})
    print("started", flush=True)
    slow(x=jnp.ones((8, 8)))

sys.modules["command"] = types.SimpleNamespace(main=main)
sys.exit(run_module("command"))
"""


def test_ctrl_c_does_not_wait_for_the_compiler():
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "started\n"
        time.sleep(1)  # the compiler is at work, and will be for many seconds
        assert process.poll() is None
        process.send_signal(2)
        started = time.perf_counter()
        assert process.wait(timeout=60) == 130
        assert time.perf_counter() - started < 5
        assert process.stderr.read().splitlines()[-1] == "interrupted"
