"""Ctrl-C ends a process that waits, whatever it waits for."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable

import pytest

import bowstring

from .support import PROMPT, Child, numbered, wait_until


@pytest.mark.parametrize("program", ["wait_for_batch", "wait_for_room", "wait_for_stream"])
def test_ctrl_c_ends_a_waiting_process_within_two_seconds(
    client: bowstring.Client, start_child: Callable[..., Child], program: str
) -> None:
    stream = "numbers"
    if program == "wait_for_stream":
        stream = "nobody-makes-it"
    client.create_stream("numbers", max_buffered_batches=1)
    if program == "wait_for_room":
        with client.producer("numbers") as producer:
            producer.append(numbered(0))
    child = start_child(program, client.url, stream)
    assert child.line() == "waiting"
    if program == "wait_for_batch":
        wait_for_reader(client)
    interrupted = time.monotonic()
    os.kill(child.process.pid, signal.SIGINT)
    child.process.wait(10)
    assert time.monotonic() - interrupted < PROMPT
    assert child.process.returncode == -signal.SIGINT, "as Python ends after a KeyboardInterrupt"
    child.lines_left()
    assert child.errors[-1] == "KeyboardInterrupt\n"


def wait_for_reader(client: bowstring.Client) -> None:
    wait_until(lambda: client.get_stats("numbers")["streams"][0]["readers"] == 1)


def test_an_interrupted_iterator_goes_on_where_it_was(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    iterator = client.iterator("numbers")
    main = threading.main_thread().ident
    timer = threading.Timer(0.2, lambda: signal.pthread_kill(main, signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        next(iterator)
    assert time.monotonic() - started < PROMPT
    with client.producer("numbers") as producer:
        producer.append(numbered(0))
        producer.complete()
    assert [batch.num_rows for batch in iterator] == [10]


def test_ctrl_c_and_sigterm_end_the_served_coordinator_in_good_order(start_python: Callable[..., Child]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        child = start_python("-m", "bowstring", "serve", "--listen", "127.0.0.1:0", "--http", "off")
        assert "listen" in child.line()
        os.kill(child.process.pid, number)
        assert child.process.wait(10) == 0


def test_a_signal_handler_of_the_program_runs_while_it_waits(client: bowstring.Client) -> None:
    client.create_stream("numbers")
    seen: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, _: seen.append(number))
    try:
        main = threading.main_thread().ident
        threading.Timer(0.1, lambda: signal.pthread_kill(main, signal.SIGUSR1)).start()
        with pytest.raises(bowstring.Timeout):
            next(client.iterator("numbers", timeout=0.6))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert seen == [signal.SIGUSR1], "and the wait went on"
