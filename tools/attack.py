"""Attacks a local server in the ways open to a client and reports which attacks it withstood.

    cargo build --release --features serve --bin serve
    python tools/attack.py            # some minutes, with 100,000 mixed requests
    python tools/attack.py --quick    # under a minute

The script starts the server on a free loopback port, connects to nothing else, and terminates: each
attack is bounded in number and time. After each attack the server must still return its expected
response, hold no memory and not have panicked. One line per attack states whether it passed; the
exit code is 1 if one failed. Requires Linux and Python 3.11, standard library only.
"""

import argparse
import asyncio
import base64
import contextlib
import gzip
import itertools
import json
import os
import pathlib
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import time

from load_test import bad, good, recordings, report, server  # The folder beside this file.
from load_test.client import Gone, once, request

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROUTE = good.ROUTE
STREAM = "/v1/audio/stream"
# Body timeout of the server in seconds, short so that tests of slow bodies end soon.
BODY_SECONDS = 4
# Server's time limit for the head of a request, in seconds.
HEAD_SECONDS = 15
# Timeout of an attacking client, in seconds.
PATIENCE = 40
# Maximum response time of /livez under overload, in seconds.
ALIVE = 0.25
# Maximum memory growth after the first tenth of the mixed requests, in MiB; more counts as a leak.
GROWTH = 12.0
SECRET = b"the-content-of-a-file-outside"


class Failed(Exception):
    """Error of an attack that the server did not withstand."""


def check(right, why):
    if not right:
        raise Failed(why)


class Plug:
    """Raw connection with access to every byte."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer

    @classmethod
    async def open(cls, port):
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    async def send(self, data):
        """Sends bytes; returns whether the server accepted them."""
        try:
            self.writer.write(data)
            await self.writer.drain()
            return True
        except OSError:
            return False

    async def rest(self, seconds=PATIENCE):
        """Reads to the end of the connection; returns the bytes and the kind of the end."""
        data = bytearray()
        try:
            async with asyncio.timeout(seconds):
                while piece := await self.reader.read(65536):
                    data += piece
            return bytes(data), "end"
        except TimeoutError:
            return bytes(data), "open"
        except OSError:
            return bytes(data), "reset"

    def half_close(self):
        with contextlib.suppress(OSError):
            self.writer.write_eof()

    def close(self):
        self.writer.transport.abort()


async def ask(port, data, half=True):
    """Sends bytes; returns the response and the kind of the connection's end."""
    plug = await Plug.open(port)
    try:
        await plug.send(data)
        if half:
            plug.half_close()
        return await plug.rest()
    finally:
        plug.close()


def statuses(answer):
    return [int(s) for s in re.findall(rb"HTTP/1\.[01] (\d{3}) ", answer)]


def head(port, method="GET", path="/livez", *lines):
    return "\r\n".join(
        [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}", *lines, "", ""]
    ).encode()


def frame(first, content, length=None, masked=True):
    """Returns a WebSocket frame; `length` overrides the stated length."""
    n = len(content) if length is None else length
    bit = 0x80 if masked else 0
    if n < 126:
        size = bytes([bit | n])
    elif n < 65536:
        size = bytes([bit | 126]) + struct.pack(">H", n)
    else:
        size = bytes([bit | 127]) + struct.pack(">Q", n)
    return bytes([first]) + size + (bytes(4) if masked else b"") + content


SETUP = frame(0x81, b'{"sample_rate": 48000, "encoding": "s16le", "interim": false}')
END = frame(0x81, b'{"type": "end"}')


async def websocket(port):
    """Opens a stream; returns it, or the status of the refusal."""
    plug = await Plug.open(port)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
    ]
    await plug.send(head(port, "GET", STREAM, *lines))
    try:
        async with asyncio.timeout(PATIENCE):
            answer = await plug.reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, TimeoutError, OSError) as e:
        plug.close()
        raise Failed(f"a stream is not opened: {e!r}") from None
    if (status := statuses(answer)[0]) != 101:
        plug.close()
        return status
    return plug


def messages(data):
    """Returns the text messages and the close code in these bytes."""
    texts, code = [], None
    while len(data) >= 2:
        kind, n, at = data[0] & 15, data[1] & 127, 2
        if n == 126:
            n, at = struct.unpack(">H", data[2:4])[0], 4
        content, data = data[at : at + n], data[at + n :]
        if kind == 1:
            texts.append(json.loads(content))
        elif kind == 8:
            code = struct.unpack(">H", content[:2])[0] if len(content) > 1 else None
    return texts, code


class Attacks:
    """Attacks, one method each, in the order of ALL."""

    def __init__(self, process, given, folder):
        self.server, self.port, self.quick, self.requests = (
            process,
            process.port,
            given.quick,
            given.requests,
        )
        self.voice, self.folder = given.voice, folder
        self.sound = recordings.voice(given.voice, 6.0)
        self.known = [good.Known(request(self.port, "POST", ROUTE, good.AUDIO, self.sound))]

    def post(self, body, *lines, path=ROUTE, length=None):
        n = len(body) if length is None else length
        return head(self.port, "POST", path, f"Content-Length: {n}", *lines) + body

    async def refused(self, data, wanted, name, half=True):
        """Checks for a single response with one of these statuses; 0 means no response."""
        answer, end = await ask(self.port, data, half)
        found = statuses(answer) or [0]
        check(end != "open", f"{name}: the connection stays open")
        check(
            len(found) == 1 and found[0] in wanted, f"{name}: {found}, not one of {sorted(wanted)}"
        )

    async def many_headers(self):
        """endless heads, huge headers and lines"""
        line = [f"x-{i}: y" for i in range(40_000)]
        for name, data in [
            ("40,000 headers", head(self.port, "GET", "/livez", *line)),
            ("a header of 4 MiB", head(self.port, "GET", "/livez", "x: " + "y" * (4 << 20))),
            ("a path of 1 MiB", head(self.port, "GET", "/" + "p" * (1 << 20))),
            ("a method of 1 MiB", head(self.port, "M" * (1 << 20))),
            ("150 headers", head(self.port, "GET", "/livez", *line[:150])),
        ]:
            await self.refused(data, {0, 400, 414, 431}, name, half=False)

    async def lengths(self):
        """lengths that lie"""
        for text, wanted in [
            ("99999999999", {413}),
            ("18446744073709551615", {400, 413, 431}),
            ("18446744073709551616", {400}),
            ("-1", {400}),
            ("+5", {400}),
            ("5, 5", {400}),
            ("0x5", {400}),
            ("", {400}),
            ("5 5", {400}),
        ]:
            data = (
                head(self.port, "POST", ROUTE, "Content-Type: audio/wav", f"Content-Length: {text}")
                + b"hello"
            )
            await self.refused(data, wanted | {0}, f"Content-Length: {text}")
        short = self.post(self.sound[:5000], "Content-Type: audio/wav", length=len(self.sound))
        await self.refused(short, {0, 400}, "a body that breaks off")

    async def chunks(self):
        """chunks of impossible sizes and shapes"""
        lines = ["Content-Type: audio/wav", "Transfer-Encoding: chunked"]
        start = head(self.port, "POST", ROUTE, *lines)
        for name, body in [
            ("2^64 bytes", b"ffffffffffffffff\r\nx"),
            ("2^80 bytes", b"fffffffffffffffffffff\r\nx"),
            ("no number", b"zz\r\nhello\r\n0\r\n\r\n"),
            ("negative", b"-5\r\nhello\r\n0\r\n\r\n"),
            ("no end of line", b"5\r\nhelloworld0\r\n\r\n"),
            ("no size", b"\r\nhello\r\n"),
            ("an endless extension", b"5;" + b"x" * (1 << 20) + b"\r\nhello\r\n0\r\n\r\n"),
            ("endless trailers", b"0\r\n" + b"x: y\r\n" * 50_000 + b"\r\n"),
            ("no last chunk", b"5\r\nhello\r\n"),
        ]:
            # Valid chunks without a recording in them.
            await self.refused(start + body, {0, 400, 413, 422, 431}, name)
        small = b"".join(b"1\r\n%c\r\n" % b for b in self.sound[:60_000]) + b"0\r\n\r\n"
        await self.refused(start + small, {200, 400, 422}, "60,000 chunks of one byte")

    async def smuggling(self):
        """a request that is hidden in another"""
        hidden = head(self.port, "GET", "/v1/models")
        for name, lines, body in [
            (
                "length and chunks",
                [f"Content-Length: {5 + len(hidden)}", "Transfer-Encoding: chunked"],
                b"0\r\n\r\n",
            ),
            (
                "chunks and length",
                ["Transfer-Encoding: chunked", f"Content-Length: {5 + len(hidden)}"],
                b"0\r\n\r\n",
            ),
            ("two lengths", ["Content-Length: 0", f"Content-Length: {len(hidden)}"], b""),
            ("unknown coding", ["Transfer-Encoding: xchunked", "Content-Length: 0"], b""),
            (
                "coding twice",
                ["Transfer-Encoding: chunked", "Transfer-Encoding: identity"],
                b"0\r\n\r\n",
            ),
            ("space before the colon", ["Content-Length : 0"], b""),
            ("a folded line", ["Content-Length:\r\n 0"], b""),
            ("a bare return", ["x: y\rContent-Length: 0"], b""),
            ("a zero byte", ["x: y\0z"], b""),
        ]:
            data = head(self.port, "POST", ROUTE, "Content-Type: audio/wav", *lines) + body + hidden
            answer, end = await ask(self.port, data)
            check(end != "open", f"{name}: the connection stays open")
            check(b'"models"' not in answer, f"{name}: the hidden request is answered")

    async def hosts(self):
        """foreign names and pages"""
        own = f"Host: 127.0.0.1:{self.port}"
        for name, text, wanted in [
            ("rebound", "GET /metrics HTTP/1.1\r\nHost: evil.example\r\n\r\n", {403}),
            ("absolute", f"GET http://evil.example/metrics HTTP/1.1\r\n{own}\r\n\r\n", {403}),
            ("two hosts", f"GET /metrics HTTP/1.1\r\n{own}\r\nHost: evil.example\r\n\r\n", {400}),
            ("the same host twice", f"GET /metrics HTTP/1.1\r\n{own}\r\n{own}\r\n\r\n", {400}),
            (
                "a user",
                "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1@evil.example\r\n\r\n",
                {400, 403},
            ),
            (
                "a longer name",
                "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n",
                {403},
            ),
            (
                "a foreign page",
                f"POST / HTTP/1.1\r\n{own}\r\nOrigin: http://evil.example\r\nContent-Length: 0\r\n\r\n",
                {403},
            ),
            (
                "no page",
                f"POST / HTTP/1.1\r\n{own}\r\nOrigin: null\r\nContent-Length: 0\r\n\r\n",
                {403},
            ),
        ]:
            await self.refused(text.encode(), wanted, name)

    async def paths(self):
        """paths out of the folders"""
        outside = self.folder / "secret.wav"
        tries = [
            "../secret.wav",
            "..%2fsecret.wav",
            "./../secret.wav",
            "sub/../../secret.wav",
            "link.wav",
            "linked/secret.wav",
            str(outside),
            f"//{outside}",
            "/etc/passwd",
            "/proc/self/environ",
            "/dev/zero",
            "a\0.wav",
            "..\\secret.wav",
            "%2e%2e/secret.wav",
            "....//secret.wav",
            "x" * 5000,
            "~/secret.wav",
            ".",
        ]
        form = "Content-Type: application/x-www-form-urlencoded"
        quote = lambda text: "".join(f"%{b:02X}" for b in text.encode())
        for path in tries:
            data = self.post(f"path_dir=&wav_name={quote(path)}".encode(), form, path="/")
            answer, _ = await ask(self.port, data)
            check(
                statuses(answer)[:1] and statuses(answer)[0] in {403, 404, 422},
                f"{path[:60]!r}: {answer[:200]}",
            )
            check(SECRET not in answer and b"root:" not in answer, f"{path!r} is read")
            data = self.post(
                f"input_speech=voice.wav&output_path={quote(path + '/')}".encode(), form, path="/"
            )
            answer, _ = await ask(self.port, data)
            check(statuses(answer)[:1] not in ([], [500]), f"writing {path[:60]!r}: {answer[:200]}")
        check(outside.read_bytes() == SECRET, "the secret is overwritten")
        names = sorted(p.name for p in self.folder.iterdir())
        check(names == ["in", "out", "secret.wav"], f"something is written outside: {names}")

    async def forms(self):
        """forms that are none"""
        kind = "Content-Type: multipart/form-data; boundary=x"
        part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'
        junk = random.Random(3).randbytes(20_000)
        for name, body in [
            ("nothing", b""),
            ("no end", part + self.sound),
            ("no blank line", b"--x\r\nhello\r\n--x--\r\n"),
            (
                "5,000 fields",
                b'--x\r\nContent-Disposition: form-data; name="seed"\r\n\r\n1\r\n' * 5000
                + b"--x--\r\n",
            ),
            ("200,000 boundaries", b"--x\r\n" * 200_000),
            ("no name", b"--x\r\n\r\nhello\r\n--x--\r\n"),
            (
                "a name of 1 MiB",
                b'--x\r\nContent-Disposition: form-data; name="'
                + b"n" * (1 << 20)
                + b'"\r\n\r\n\r\n--x--\r\n',
            ),
            ("20,000 headers", b"--x\r\n" + b"y: z\r\n" * 20_000 + b"\r\nhello\r\n--x--\r\n"),
            ("two files", (part + b"a\r\n") * 2 + b"--x--\r\n"),
            ("noise", part[:30] + junk),
            ("zero bytes", part.replace(b"a.wav", b"a\0.wav") + b"--x--\r\n"),
        ]:
            await self.refused(self.post(body, kind), {400, 413, 422}, name)
        for bad_kind in [
            "multipart/form-data",
            "multipart/form-data; boundary=",
            "multipart/form-data; boundary=" + "b" * 5000,
        ]:
            await self.refused(self.post(part, f"Content-Type: {bad_kind}"), {400}, bad_kind[:60])
        bomb = gzip.compress(bytes(64 << 20))
        await self.refused(
            self.post(bomb, "Content-Type: audio/wav", "Content-Encoding: gzip"), {415}, "a bomb"
        )

    async def refusals(self):
        """large bodies that are refused before they are read"""
        body = bytes(30 << 20)
        for path, lines, wanted in [
            ("/none", [], 404),
            (ROUTE, ["Content-Type: text/plain"], 415),
            (ROUTE + "?x=y", ["Content-Type: audio/wav"], 400),
            (ROUTE, ["Content-Type: audio/wav", "Origin: http://evil.example"], 403),
            (ROUTE, ["Content-Type: audio/wav"], 413),
        ]:
            answer, end = await ask(self.port, self.post(body, *lines, path=path))
            check(
                statuses(answer) == [wanted] and end == "end",
                f"{path} {lines}: {statuses(answer)}, {end}",
            )

    async def leaving(self):
        """clients that leave at every point"""
        data, dice = self.known[0].request, random.Random(5)

        async def one():
            plug = await Plug.open(self.port)
            await plug.send(data[: dice.randrange(len(data) + 1)])
            if dice.random() < 0.3:
                plug.half_close()
            await asyncio.sleep(0.02 * dice.random())
            plug.close()

        for _ in range(10 if self.quick else 100):
            await asyncio.gather(*(one() for _ in range(30)))

    async def frames(self):
        """streams that break the rules of WebSocket"""
        big = bytes((1 << 20) + 2)
        for name, data, wanted in [
            ("a large message", SETUP + frame(0x82, big), 1009),
            ("a terabyte", SETUP + frame(0x82, b"", 1 << 40), 1009),
            ("no text", SETUP + frame(0x81, b"\xff"), 1007),
            ("not masked", SETUP + frame(0x82, b"xx", masked=False), 1002),
            ("reserved bits", SETUP + frame(0xF2, b"xx"), 1002),
            ("an unknown kind", SETUP + frame(0x8B, b""), 1002),
            ("text twice", SETUP + SETUP, 1008),
            ("samples first", frame(0x82, b"xx"), 1008),
            ("no JSON", frame(0x81, b"{"), 1008),
            ("a deep JSON", frame(0x81, b"[" * 100_000), 1008),
            ("its own close", SETUP + frame(0x88, b"\x03\xe8"), 1000),
        ]:
            plug = await websocket(self.port)
            check(isinstance(plug, Plug), f"{name}: refused with {plug}")
            await plug.send(data)
            answer, end = await plug.rest()
            plug.close()
            texts, code = messages(answer)
            check(end == "end" and code == wanted, f"{name}: {end}, code {code}, not {wanted}")
            told = [t["type"] for t in texts]
            check(told == ([] if wanted == 1000 else ["error"]), f"{name}: {told}")

    async def flood(self):
        """floods of pings, empty and tiny frames"""

        async def one(piece):
            plug = await websocket(self.port)
            check(isinstance(plug, Plug), f"refused with {plug}")
            reading = asyncio.create_task(plug.rest())
            await plug.send(SETUP)
            for _ in range(40):
                if not await plug.send(piece * 500):
                    break
            await plug.send(END)
            answer, _ = await reading
            plug.close()
            check(answer, "no answer at all")

        kinds = [
            frame(0x89, b"x" * 100),
            frame(0x82, b""),
            frame(0x82, b"\0"),
            frame(0x02, b"") + frame(0x80, b""),
        ]
        await asyncio.gather(*(one(piece) for piece in kinds))

    async def streams(self):
        """more streams than are taken, and streams that are full"""
        plugs = [await websocket(self.port) for _ in range(80)]
        opened = [p for p in plugs if isinstance(p, Plug)]
        refused = {p for p in plugs if not isinstance(p, Plug)}
        try:
            check(
                refused == {429} and len(opened) <= 64,
                f"{len(opened)} streams are open, others {refused}",
            )
            # The total exceeds the memory budget of all streams.
            megabyte = frame(0x82, bytes(1 << 20))

            async def fill(plug):
                await plug.send(SETUP)
                for _ in range(32):
                    if not await plug.send(megabyte):
                        break

            await asyncio.gather(*(fill(plug) for plug in opened[:12]))
            body = recordings.silence(16_000, 500)
            for _ in range(20):
                answer = await once(self.port, request(self.port, "POST", ROUTE, good.AUDIO, body))
                check(answer.status == 422, f"beside full streams a request gets {answer.status}")
            text = await self.metrics()
            held = self.value(text, "maeum_held_bytes") / 2**20
            check(held <= 257, f"streams hold {held:.0f} MiB")
        finally:
            for plug in opened:
                plug.close()

    async def slow(self):
        """slow heads, bodies and readers, side by side"""
        wait = HEAD_SECONDS + 8

        async def drip(start, piece, wanted, name):
            plug = await Plug.open(self.port)
            begin = time.monotonic()
            await plug.send(start)
            reading = asyncio.create_task(plug.rest(wait))
            while not reading.done() and time.monotonic() - begin < wait:
                await plug.send(piece)
                await asyncio.sleep(0.4)
            answer, end = await reading
            plug.close()
            check(end != "open", f"{name}: still open after {wait} s")
            check(set(statuses(answer)) <= wanted, f"{name}: {answer[:100]}")

        async def reader():
            """Sends requests without reading a response."""
            plug = await Plug.open(self.port)
            for _ in range(400):
                if not await asyncio.wait_for(
                    asyncio.shield(plug.send(head(self.port, "GET", "/openapi.json"))), 1
                ):
                    break
            plug.close()

        async def idle():
            plug = await Plug.open(self.port)
            _, end = await plug.rest(wait)
            plug.close()
            check(end != "open", f"idle: still open after {wait} s")

        body = self.post(self.sound[:1000], "Content-Type: audio/wav", length=len(self.sound))
        chunked = head(
            self.port, "POST", ROUTE, "Content-Type: audio/wav", "Transfer-Encoding: chunked"
        )
        drips = itertools.chain(
            (drip(b"GET /livez HTTP/1.1\r\n", b"x: y\r\n", {408}, "slow head") for _ in range(60)),
            (drip(body, b"x", {408}, "slow body") for _ in range(60)),
            (drip(chunked, b"1\r\nx\r\n", {408}, "slow chunks") for _ in range(20)),
            (idle() for _ in range(100)),
            (quietly(reader()) for _ in range(10)),
        )
        await self.beside(asyncio.gather(*drips), 1.0)

    async def connections(self):
        """800 idle connections"""
        plugs = await asyncio.gather(*(Plug.open(self.port) for _ in range(800)))
        try:
            await self.beside(asyncio.sleep(1), ALIVE)
        finally:
            for plug in plugs:
                plug.close()

    async def overload(self):
        """ten times the load"""
        tally, took = await good.clients(self.port, self.known, 8, good.until(1))
        rate = 10 * max(20.0, tally.right / took)
        seconds = 3 if self.quick else 10
        tally, _, _ = await self.beside(good.arrivals(self.port, self.known, rate, seconds), ALIVE)
        check(not tally.wrong(), f"{tally.wrong()}")
        check(tally.right and tally.outcomes["429"], f"no overload: {dict(tally.outcomes)}")

    async def mixture(self):
        """good and bad requests, mixed, and memory that stays"""
        total = 2000 if self.quick else self.requests
        mixed = good.of_all_kinds(self.port, self.voice)
        await good.learn(self.port, mixed)
        slow = {"larger than taken", "longer than taken", "slow body", "closed route"}
        cases = [c for c in bad.cases(self.port, self.voice) if c.name not in slow]
        held, numbers, wrong = [], itertools.count(), []

        async def one(end):
            while (number := next(numbers)) < end:
                if number % 2:
                    case = cases[number // 2 % len(cases)]
                    outcome = await case.outcome(self.port)
                    if outcome not in case.outcomes | {"429 busy"}:
                        wrong.append(f"{case.name}: {outcome}")
                else:
                    known = mixed[number // 2 % len(mixed)]
                    try:
                        answer = await once(self.port, known.request)
                    except Gone:
                        wrong.append("a connection is lost")
                        continue
                    if answer.status != 429 and (
                        answer.status != 200 or answer.body != known.answer
                    ):
                        wrong.append(f"a good request gets {answer.status}")

        for tenth in range(1, 11):
            numbers = itertools.count((tenth - 1) * total // 10)
            await asyncio.gather(*(one(tenth * total // 10) for _ in range(8)))
            held.append(self.server.memory())
        check(not wrong, f"{len(wrong)} wrong, such as {wrong[:3]}")
        # The first tenths fill buffers and caches.
        growth = held[-1] - held[1]
        check(growth < GROWTH, f"memory grew by {growth:.1f} MiB: {[round(h) for h in held]}")

    async def beside(self, work, limit):
        """Runs an attack while another process polls /livez; each response must take at most `limit`."""
        command = [sys.executable, __file__, "--watch", str(self.port)]
        watch = await asyncio.create_subprocess_exec(
            *command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            # The measurement starts with the first response.
            first = await watch.stdout.readline()
            check(first == b"ready\n", f"/livez before it: {first}")
            outcome = await work
        finally:
            out, _ = await watch.communicate(b"\n")
        found = json.loads(out)
        check(found["answers"] > 0 and not found["fault"], f"/livez beside it: {found}")
        check(found["worst"] < limit, f"/livez took {1e3 * found['worst']:.0f} ms beside it")
        return outcome

    async def metrics(self):
        return (await once(self.port, request(self.port, "GET", "/metrics"))).body.decode()

    @staticmethod
    def value(text, name):
        return float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE).group(1))

    async def rest(self):
        """Checks that the server holds nothing and responds as before."""
        names = ["maeum_queue_jobs", "maeum_running_jobs", "maeum_held_bytes", "maeum_open_streams"]
        end = time.monotonic() + BODY_SECONDS + 10
        while True:
            text = await self.metrics()
            left = {n: self.value(text, n) for n in names if self.value(text, n)}
            if not left:
                break
            check(time.monotonic() < end, f"afterwards {left}")
            await asyncio.sleep(0.1)
        check(
            self.value(text, "maeum_panics_total") == 0 and b"panicked" not in self.server.logged(),
            "it panicked",
        )
        answer = await once(self.port, self.known[0].request)
        check(
            answer.status == 200 and answer.body == self.known[0].answer,
            f"afterwards a good request gets {answer.status}",
        )

    async def everything(self):
        await good.learn(self.port, self.known)
        failed = 0
        for attack in ALL:
            start, fault = time.monotonic(), None
            try:
                await attack(self)
                await self.rest()
            except (Failed, OSError, Gone, TimeoutError) as e:
                fault = str(e) or repr(e)
                failed += 1
            seconds = time.monotonic() - start
            print(
                f"{'FAIL' if fault else 'pass'} {seconds:6.1f} s  {attack.__doc__}{': ' + fault if fault else ''}",
                flush=True,
            )
            if self.server.process.poll() is not None:
                print(f"FAIL the server ended with code {self.server.process.returncode}")
                return failed + 1
        return failed


ALL = [
    Attacks.many_headers,
    Attacks.lengths,
    Attacks.chunks,
    Attacks.smuggling,
    Attacks.hosts,
    Attacks.paths,
    Attacks.forms,
    Attacks.refusals,
    Attacks.leaving,
    Attacks.frames,
    Attacks.flood,
    Attacks.streams,
    Attacks.slow,
    Attacks.connections,
    Attacks.overload,
    Attacks.mixture,
]


async def quietly(work):
    with contextlib.suppress(OSError, TimeoutError):
        await work


def watch(port):
    """Polls /livez until standard input ends; prints the longest response time."""
    import threading

    ended = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(1), ended.set()), daemon=True).start()
    worst, answers, fault = 0.0, 0, None
    data = head(port)
    try:
        while not ended.is_set():
            start = time.monotonic()
            with socket.create_connection(("127.0.0.1", port), timeout=30) as plug:
                plug.sendall(data)
                if not plug.recv(4096).startswith(b"HTTP/1.1 200 "):
                    fault = "not 200"
            worst, answers = max(worst, time.monotonic() - start), answers + 1
            if answers == 1:
                print("ready", flush=True)
            ended.wait(0.02)
    except OSError as e:
        fault = repr(e)
    print(json.dumps({"worst": worst, "answers": answers, "fault": fault}))


def without_a_log(program, voice):
    """Checks that a server without a log reader still responds; returns the problem, if any."""
    ours, theirs = os.pipe()
    os.close(ours)
    process = subprocess.Popen([program, "--port", "0"], stdout=subprocess.PIPE, stderr=theirs)
    os.close(theirs)
    try:
        line = process.stdout.readline().decode()
        found = re.search(r":(\d+)$", line.strip())
        if not found:
            return f"no port on standard output: {line!r}"
        port = int(found.group(1))
        data = request(port, "POST", ROUTE, good.AUDIO, recordings.voice(voice, 2.0))

        async def answers():
            for _ in range(100):
                if (await once(port, request(port, "GET", "/readyz"))).status == 200:
                    break
                await asyncio.sleep(0.1)
            return {(await once(port, data)).status for _ in range(20)}

        found = asyncio.run(answers())
        return None if found == {200} else f"statuses {found}"
    except (OSError, Gone) as e:
        return repr(e)
    finally:
        process.terminate()
        process.wait(60)


def place(folder, voice):
    """Creates the folders for the 2020 interface, with a secret file beside them."""
    (folder / "in" / "sub").mkdir(parents=True)
    (folder / "out").mkdir()
    (folder / "secret.wav").write_bytes(SECRET)
    (folder / "in" / "voice.wav").write_bytes(recordings.voice(voice, 2.0))
    (folder / "in" / "link.wav").symlink_to("../secret.wav")
    (folder / "in" / "linked").symlink_to("..")
    (folder / "out" / "linked").symlink_to("..")


def main():
    if sys.argv[1:2] == ["--watch"]:
        return watch(int(sys.argv[2]))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--server", default=ROOT / "target/release/serve", type=pathlib.Path, help="the program"
    )
    parser.add_argument(
        "--voice",
        default=ROOT / "tests/data/voice.wav",
        type=pathlib.Path,
        help="a mono WAV file of 16 bits that the recordings are made of",
    )
    parser.add_argument("--requests", default=100_000, type=int, help="that are mixed")
    parser.add_argument("--quick", action="store_true", help="under a minute")
    given = parser.parse_args()
    if not given.server.exists():
        parser.error(
            f"{given.server} is not there: cargo build --release --features serve --bin serve"
        )
    print(f"{report.machine()}, shared by client and server; load before: {report.load():.1f}")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        place(folder, given.voice)
        arguments = [
            "--body-timeout",
            str(BODY_SECONDS),
            "--queue",
            "16",
            "--files-root",
            folder / "in",
            "--write-root",
            folder / "out",
        ]
        with server.Server(given.server, arguments) as process:
            failed = asyncio.run(Attacks(process, given, folder).everything())
            code = process.end()
            if code:
                failed += 1
                print(f"FAIL the server ended with code {code}")
    fault = without_a_log(given.server, given.voice)
    failed += bool(fault)
    print(
        f"{'FAIL' if fault else 'pass'}           a log that nobody reads{': ' + fault if fault else ''}"
    )
    print(f"\n{failed or 'No'} attacks succeeded, {time.monotonic() - start:.0f} s")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
