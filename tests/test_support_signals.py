"""Signals that end a command, in processes that do not load Keras."""

import os
import signal
import subprocess
import sys

import pytest

from se_keras.support.errors import damage_named
from se_keras.support.signals import Signals, Stopped

HEAD = """
import os, signal, sys, time
# Signals may be ignored around the tests: by nohup, or in the background of a script.
signal.signal(signal.SIGHUP, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.argv[0] = "se-keras"  # which does not load Keras
from se_keras.support.signals import Signals, Stopped, exit_code, signal_of
def begin():
    print("begun", flush=True)
"""
# Python prints what is raised in `__del__`, and goes on.
LOST = """
class Callback:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0)
with Signals() as signals:
    try:
        Callback()
        begin()
        time.sleep(600)
    except Stopped as error:
        signals.seen()
        time.sleep(1.1)  # twice the time after which it is raised again
        print("stopped by", error.number)
        sys.exit(exit_code(error.number))
"""
CLEANING = """
with Signals() as signals:
    try:
        try:
            begin()
            time.sleep(600)
        finally:
            time.sleep(1.1)
            print("put away")
    except Stopped as error:
        signals.seen()
        sys.exit(exit_code(error.number))
"""
# As compiled code does that calls Python.
CONVERTED = """
def convert():
    try:
        begin()
        time.sleep(600)
    except Stopped:
        pass
    raise ValueError
with Signals() as signals:
    try:
        try:
            convert()
        finally:
            time.sleep(1.1)
            print("put away")
    except ValueError as error:
        signals.seen()
        sys.exit(exit_code(signal_of(error)))
"""
WAITING = """
from se_keras.support.signals import signals_wait
with Signals() as signals:
    try:
        with signals_wait():
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(1.1)  # twice the time after which it is raised again
            print("loaded")
        time.sleep(600)
    except Stopped as error:
        signals.seen()
        sys.exit(exit_code(error.number))
"""
COMPILED = """
import hashlib
def compute():
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)
with Signals():
    try:
        begin()
        compute()
    except Stopped:  # the first signal came before the compiled code
        compute()
"""
EARLY = """
begin()
time.sleep(600)
"""
IGNORED = """
signal.signal(signal.SIGHUP, signal.SIG_IGN)
with Signals():
    os.kill(os.getpid(), signal.SIGHUP)
    time.sleep(0)
    print("went on")
"""


def started(code):
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=dict(os.environ, PYTHONUNBUFFERED="1"),
    )
    if "begin()" in code:
        assert process.stdout.readline() == "begun\n"
    return process


def test_a_stop_that_python_loses_comes_again():
    out, err = started(LOST).communicate()
    assert (out, err) == ("stopped by 15\n", "")


@pytest.mark.parametrize("code", [CLEANING, CONVERTED], ids=["Stopped", "another error"])
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_what_is_begun_is_put_away_once(name, code):
    process = started(code)
    process.send_signal(signal.Signals[name])
    assert process.communicate() == ("put away\n", "")
    assert process.returncode == 128 + signal.Signals[name]


def test_a_signal_waits_until_compiled_code_is_loaded():
    process = started(WAITING)
    assert process.communicate() == ("loaded\n", "")
    assert process.returncode == 143


def test_a_second_signal_ends_compiled_code():
    process = started(COMPILED)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGTERM)
    assert process.communicate() == ("", "")
    assert process.returncode in (128 + signal.SIGTERM, 128 + signal.SIGINT)


def test_before_a_command_has_begun_it_ends_without_a_word():
    process = started(EARLY)
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "")
    assert process.returncode == 130


def test_what_the_process_is_to_ignore_is_ignored():
    assert started(IGNORED).communicate() == ("went on\n", "")


def test_a_signal_is_no_damage_of_a_file(monkeypatch):
    monkeypatch.setattr(Signals, "number", 15)
    with pytest.raises(Stopped), damage_named("can't read a.keras"):
        raise OSError("which compiled code made of `Stopped`")
