"""Invalid requests, each with the expected status, while valid ones are handled."""

import asyncio
import json
import random
from collections import Counter

from . import recordings
from .client import Connection, Gone, form, once, request
from .good import AUDIO, ROUTE

# Default body limit of the server, in bytes.
MAX_BODY = 25 << 20
MAX_SECONDS = 600
# Body timeout of the server in seconds: short for a fast test, but long enough for a recording on a
# busy machine.
BODY_SECONDS = 8
# Interval between the bytes of a slow client, in seconds.
DRIP = 0.5


class Case:
    """Request with its valid outcomes, or another action `act`."""

    def __init__(self, name, outcomes, request=None, act=None):
        self.name, self.outcomes, self.request, self.act = name, outcomes, request, act

    async def outcome(self, port):
        try:
            answer = await (self.act(port) if self.act else once(port, self.request))
        except (Gone, OSError):
            return "closed"
        if answer is None:
            return "left"
        if answer.status == 200:
            return "200"
        try:
            return f"{answer.status} {json.loads(answer.body)['error']['code']}"
        except (ValueError, KeyError, TypeError):
            return str(answer.status)


def cases(port, voice):
    """Returns all cases. Broken files that decode in part may get a prediction."""
    sound = recordings.voice(voice, 6.0)
    dice = random.Random(7)
    noise = dice.randbytes(60_000)
    flipped = bytearray(sound)
    for _ in range(40):
        flipped[dice.randrange(len(flipped))] ^= 1 << dice.randrange(8)
    audio = lambda body, query="": request(port, "POST", ROUTE + query, AUDIO, body)
    parts = form(port, [], "x.wav", sound)
    as_text = request(port, "POST", ROUTE, [("Content-Type", "text/plain")], sound)
    to_root = request(port, "POST", "/", [], b"path_dir=/etc/&wav_name=passwd")
    unusable, bad = {"422 unusable_audio"}, {"400 bad_request"}
    # A busy machine may need longer for many megabytes than the body timeout.
    late = "408 timeout"
    maybe = unusable | {"200"}
    return [
        Case("empty body", unusable, audio(b"")),
        Case("random bytes", unusable, audio(noise)),
        Case("head of a WAV alone", unusable, audio(sound[:44])),
        Case("WAV cut short", maybe, audio(sound[:70_001])),
        Case("WAV with flipped bits", maybe, audio(bytes(flipped))),
        Case("WAV that claims 4 GiB", maybe, audio(sound[:40] + b"\xff" * 4 + sound[44:])),
        Case("WAV of 0 Hz", unusable, audio(sound[:24] + bytes(4) + sound[28:])),
        Case("silence", unusable, audio(recordings.silence(16_000, 4))),
        Case(
            "longer than taken",
            {"413 too_long", late},
            audio(recordings.silence(8_000, MAX_SECONDS + 1)),
        ),
        Case("larger than taken", {"413 too_large", late}, audio(bytes(MAX_BODY + 1))),
        Case("unknown parameter", bad, audio(sound, "?speed=2")),
        Case("unknown format", bad, audio(sound, "?response_format=xml")),
        Case("too many draws", bad, audio(sound, "?dropout=1000000")),
        Case("no file", bad, form(port, [("seed", 1)])),
        Case("unknown field", bad, form(port, [("speed", 1)], "x.wav", sound)),
        Case("form cut short", bad, with_length(parts[:-30])),
        Case("not audio", {"415 no_recording"}, as_text),
        Case("closed route", {"403 files_off"}, to_root),
        Case("no route", {"404 no_route"}, request(port, "GET", "/../../etc/passwd")),
        Case("wrong method", {"405 method_not_allowed"}, request(port, "GET", ROUTE)),
        Case("no HTTP", {"400"}, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        Case("foreign page", {"403 foreign_origin"}, foreign(audio(sound))),
        Case("endless head", {"431", "closed"}, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000),
        Case("leaves in its body", {"left"}, act=leaving(audio(sound), 0.5)),
        Case("leaves before its answer", {"left"}, act=leaving(audio(sound), 1.0)),
        Case("slow body", {late}, act=dripping(audio(sound))),
    ]


def with_length(data):
    """Returns the request with the correct length of its body."""
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [
        b"Content-Length: %d" % len(body) if line.startswith(b"Content-Length:") else line
        for line in head.split(b"\r\n")
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def foreign(data):
    return data.replace(b"\r\n", b"\r\nOrigin: http://elsewhere.example\r\n", 1)


def leaving(data, share):
    async def act(port):
        connection = await Connection.open(port)
        connection.send(data[: int(share * len(data))])
        await asyncio.sleep(random.random() * 0.02)
        connection.close()

    return act


def dripping(data):
    async def act(port):
        connection = await Connection.open(port)
        connection.send(data[:1000])
        for i in range(int(4 * BODY_SECONDS / DRIP)):
            await asyncio.sleep(DRIP)
            if connection.data or connection.lost:
                break
            connection.send(data[1000 + i : 1001 + i])
        try:
            return await connection.answer()
        finally:
            connection.close()

    return act


async def clients(port, all_cases, count, go_on):
    """Runs concurrent clients that repeat the cases; every case runs at least once.
    Returns the counts of all outcomes, and the counts of wrong outcomes."""
    seen, wrong = Counter(), Counter()
    queue = list(all_cases)

    async def one():
        while queue or go_on():
            if not queue:
                queue.extend(all_cases)
                random.shuffle(queue)
            case = queue.pop()
            outcome = await case.outcome(port)
            seen[outcome] += 1
            # A full queue refuses any request.
            if outcome not in case.outcomes and outcome != "429 busy":
                wrong[f"{case.name}: {outcome}"] += 1

    await asyncio.gather(*(one() for _ in range(count)))
    return seen, wrong
