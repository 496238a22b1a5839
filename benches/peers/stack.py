"""What the programs of the stacks share: the job, the clock, the memory, the answer.

A stack is a program that is started with one job (JSON), does it alone on the machine, and prints one line of JSON.
The jobs are made by `run.py`.
"""

import json
import sys
import time


def job():
    """The job this process was started with."""
    return json.loads(sys.argv[1])


def training_token(sequence, position, vocabulary):
    """Token of a training sequence; the engine's bench uses the same formula."""
    return (sequence * 7919 + position * position * 31 + position) % vocabulary


def measure(seconds, repeat):
    """Repeats until the time is over; `repeat` returns how many tokens it made."""
    start, tokens, repeats = time.perf_counter(), 0, 0
    while repeats == 0 or time.perf_counter() - start < seconds:
        tokens += repeat()
        repeats += 1
    spent = time.perf_counter() - start
    return {"tokens_per_second": tokens / spent, "seconds": spent, "repeats": repeats}


def peak_memory():
    """Peak resident memory of this process in MB (10^6 bytes), where the system tells."""
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("VmHWM"):
                    return int(line.split()[1]) * 1024 / 1e6
    except OSError:
        pass
    return None


def answer(result):
    json.dump(result | {"peak_memory_mb": peak_memory()}, sys.stdout)
    print()
