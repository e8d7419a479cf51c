"""Valid requests whose responses must equal, byte for byte, the response to the request alone."""

import asyncio
import itertools
import random
import time
from collections import Counter

from . import recordings
from .client import Connection, Gone, form, once, request

ROUTE = "/v1/audio/emotion"
AUDIO = [("Content-Type", "audio/wav")]
# Random extra delay of clients that are refused with a retry time, as a fraction of a second, so
# that they do not all retry together.
SPREAD = 0.5


class Known:
    """Request and its expected response."""

    def __init__(self, request):
        self.request = request
        self.answer = None


def of_one_length(port, voice, seconds, count=8):
    """Returns requests with different recordings of the same length as the body."""
    sounds = (recordings.voice(voice, seconds, 0.31 * i) for i in range(count))
    return [Known(request(port, "POST", ROUTE, AUDIO, sound)) for sound in sounds]


def of_all_kinds(port, voice):
    """Returns requests with different lengths, formats, draws and encodings."""
    known = []
    formats = ["json", "csv", "codes", "textgrid", "audacity", "rttm"]
    for i, seconds in enumerate([0.8, 2.0, 3.3, 6.0, 11.0, 25.0]):
        sound = recordings.voice(voice, seconds, 0.7 * i)
        path = f"{ROUTE}?response_format={formats[i]}&dropout={5 * i + 1}"
        known.append(Known(request(port, "POST", path, AUDIO, sound)))
        fields = [("seed", i), ("response_format", formats[-i])]
        known.append(Known(form(port, fields, f"{i}.wav", sound)))
    return known


async def learn(port, known):
    """Sends each request alone, twice, to get the expected response."""
    for one in known:
        first, second = await once(port, one.request), await once(port, one.request)
        if first.status != 200 or first.body != second.body:
            raise SystemExit(f"no steady answer alone: {first.status} {first.body[:300]}")
        one.answer = first.body


class Tally:
    """Counts of responses."""

    def __init__(self):
        self.seconds = []
        self.refused = []
        self.outcomes = Counter()

    @property
    def right(self):
        return len(self.seconds)

    def wrong(self):
        """Returns all outcomes except expected responses and refusals with a retry time."""
        return {k: n for k, n in self.outcomes.items() if k not in ("right", "429")}

    def count(self, answer, known, seconds):
        """Counts a response; returns whether the client must retry later."""
        if answer.status == 200 and answer.body == known.answer:
            self.outcomes["right"] += 1
            self.seconds.append(seconds)
        elif answer.status == 429 and (answer.header(b"retry-after") or b"").isdigit():
            self.outcomes["429"] += 1
            self.refused.append(seconds)
            return True
        else:
            self.outcomes[f"wrong answer, status {answer.status}"] += 1
        return False

    def percentile(self, percent):
        """Returns a percentile of the latency in milliseconds; NaN without responses."""
        return percentile(self.seconds, percent)

    def percentile_of_refused(self, percent):
        return percentile(self.refused, percent)


def percentile(seconds, percent):
    ranked = sorted(seconds)
    if not ranked:
        return float("nan")
    return 1e3 * ranked[min(len(ranked) - 1, int(percent / 100 * len(ranked)))]


async def client(port, known, tally, go_on):
    """Sends requests over one connection until the limit."""
    connection = await Connection.open(port)
    try:
        while go_on():
            one = next(known)
            start = time.perf_counter()
            try:
                answer = await connection.ask(one.request)
            except Gone:
                tally.outcomes["connection lost"] += 1
                connection = await Connection.open(port)
                continue
            if tally.count(answer, one, time.perf_counter() - start):
                wait = int(answer.header(b"retry-after"))
                await asyncio.sleep(wait * (1 - SPREAD * random.random()))
    finally:
        connection.close()


def until(seconds):
    """Returns a predicate that is true for this many seconds."""
    end = time.monotonic() + seconds
    return lambda: time.monotonic() < end


async def clients(port, known, count, go_on):
    """Runs concurrent clients; returns the counts and the duration."""
    tally = Tally()
    endless = itertools.cycle(known)
    start = time.perf_counter()
    await asyncio.gather(*(client(port, endless, tally, go_on) for _ in range(count)))
    return tally, time.perf_counter() - start


# Number of connections of the overload, below the server's limit.
CROWD = 800
# Interval between batches of requests, in seconds.
TICK = 0.005


async def arrivals(port, known, rate, seconds):
    """Sends `rate` requests per second without waiting for responses. Also returns the number of sent
    requests: a request needs an idle connection."""
    tally = Tally()
    endless = itertools.cycle(known)
    idle = [await Connection.open(port) for _ in range(CROWD)]
    running = set()

    async def one(connection):
        which = next(endless)
        start = time.perf_counter()
        try:
            answer = await connection.ask(which.request)
        except Gone:
            tally.outcomes["connection lost"] += 1
            return
        tally.count(answer, which, time.perf_counter() - start)
        idle.append(connection)

    start, sent, due = time.perf_counter(), 0, 0
    while (now := time.perf_counter() - start) < seconds:
        while due < rate * now:
            due += 1
            if idle:
                sent += 1
                task = asyncio.create_task(one(idle.pop()))
                running.add(task)
                task.add_done_callback(running.discard)
        await asyncio.sleep(TICK)
    sending = time.perf_counter() - start
    await asyncio.gather(*running)
    whole = time.perf_counter() - start
    for connection in idle:
        connection.close()
    return tally, sent / sending, whole
