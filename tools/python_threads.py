#!/usr/bin/env python3
"""Measures how two Python threads share the interpreter while recordings are recognised.

    python tools/python_threads.py [FILE]        needs the package maeum, built with optimisation

Prints the median ratio of the throughputs of two threads and one, in alternating runs, which needs two idle
processors; and the share of a file's processor time that holds the interpreter lock, which does not: with a share of
s, the ratio is at most 2 / (1 + s). With pyarrow, also that of the rows of maeum.daft.
"""

import pathlib
import statistics
import sys
import threading
import time

import maeum

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILES, ROUNDS = 100, 9


def rows_times(recognizer, file):
    """Processor time of the rows of maeum.daft in seconds, of all and of what holds the lock; `None` without Arrow."""
    try:
        import pyarrow
    except ImportError:
        return None
    engine = recognizer._engine
    for _ in range(2):
        # The first conversion loads packages.
        begin = time.thread_time()
        column = engine.answers_of_files([file] * FILES)
        middle = time.thread_time()
        # Rows without a recording: the arguments, and more than what holds the lock.
        engine.answers_of_files([None] * FILES)
        pyarrow.array(column)
        end = time.thread_time()
    return end - begin, end - middle


def main():
    file = sys.argv[1] if len(sys.argv) > 1 else str(ROOT / "tests" / "data" / "voice.wav")
    recognizer = maeum.Recognizer(num_workers=1)

    def work(count):
        for _ in range(count):
            recognizer.process_file(file)

    def seconds(threads):
        workers = [threading.Thread(target=work, args=(FILES // threads,)) for _ in range(threads)]
        begin = time.monotonic()
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.monotonic() - begin

    work(10)
    ratios = [seconds(1) / seconds(2) for _ in range(ROUNDS)]
    begin = time.thread_time()
    lines = [recognizer._engine.process_file(file, None, None, None) for _ in range(FILES)]
    middle = time.thread_time()
    predictions = [maeum.Prediction(line) for line in lines]
    end = time.thread_time()
    assert len(predictions) == FILES
    rows = rows_times(recognizer, file)
    share = (end - middle) / (end - begin)
    print(f"two threads do {statistics.median(ratios):.2f} times one (from {min(ratios):.2f} to {max(ratios):.2f})")
    print(f"{(end - begin) / FILES * 1000:.2f} ms per file, {share:.1%} of it with the interpreter lock: at most {2 / (1 + share):.2f} times")
    if rows is not None:
        whole, locked = (seconds / FILES * 1000 for seconds in rows)
        print(f"as rows of maeum.daft {locked:.4f} of {whole:.2f} ms hold the lock: at most {whole / locked:.0f} processors")


if __name__ == "__main__":
    main()
