"""Loads a local server and reports its throughput, latency and memory.

    cargo build --release --features serve --bin serve
    python tools/load_test.py            # some minutes
    python tools/load_test.py --quick    # a few seconds: correctness only, not speed

The script starts the server on a free loopback port and terminates. Client and server share the
machine's processors. Every response is compared, byte for byte, with the response to the same request
alone. The last line holds all measurements as JSON. The exit code is 1 for a wrong response, a lost
connection, a panic, or memory that grows or stays held; speed alone never fails.
Requires Linux and Python 3.11, standard library only.
"""

import argparse
import asyncio
import itertools
import json
import pathlib
import re
import resource
import sys
import time

from load_test import bad, good, recordings, report, server  # The folder beside this file.
from load_test.client import once, request

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Ratio of the overload's request rate to the server's capacity.
OVERLOAD = 10
# Maximum memory growth after the first tenth of the requests, in MiB; more counts as a leak. A
# kilobyte lost per request would be 9; the allocator fluctuates by a few.
GROWTH = 8.0
# Maximum memory growth through long recordings, in MiB per recognition thread: kept buffers of at
# most 32, and as much again in the allocator, which returns larger blocks.
KEPT = 64.0
# Duration of the recordings in seconds; all targets are for this duration and two processors.
SECONDS = 6.0
TARGET_RATE = 150.0
TARGET_MS = 50.0


class Run:
    """Measurements of one server."""

    def __init__(self, process, given):
        self.server, self.port = process, process.port
        self.voice, self.quick, self.requests = given.voice, given.quick, given.requests
        self.faults, self.found = [], {}

    def check(self, fine, text):
        if not fine:
            self.faults.append(text)
            print(f"FAULT: {text}", flush=True)

    def check_tally(self, tally, where):
        wrong = tally.wrong()
        self.check(not wrong, f"{where}: {wrong}")
        self.check(tally.right > 0, f"{where}: no answer at all")

    async def levels(self, known):
        """Measures throughput and latency with increasing numbers of clients without pauses."""
        rows = self.found["levels"] = []
        seconds = 0.7 if self.quick else 10
        for count in [1, 8] if self.quick else [1, 8, 64, 512]:
            before, own = self.server.cpu(), own_cpu()
            tally, took = await good.clients(self.port, known, count, good.until(seconds))
            self.check_tally(tally, f"{count} clients")
            answered = max(1, tally.right)
            rows.append(
                {
                    "clients": count,
                    "per_second": tally.right / took,
                    **quantiles(tally),
                    "refused": tally.outcomes["429"],
                    "server_cpu_ms": 1e3 * (self.server.cpu() - before) / answered,
                    "client_cpu_ms": 1e3 * (own_cpu() - own) / answered,
                    "load": report.load(),
                }
            )
        print(
            f"\nRecordings of {SECONDS:g} s, each client asking again at once; ms until the answer:\n"
        )
        head = [
            "clients",
            "answers/s",
            "p50",
            "p95",
            "p99",
            "429",
            "server CPU ms",
            "client CPU ms",
        ]
        cells = [
            [
                str(r["clients"]),
                f"{r['per_second']:.1f}",
                *(f"{r[p]:.1f}" for p in ("p50", "p95", "p99")),
                str(r["refused"]),
                f"{r['server_cpu_ms']:.1f}",
                f"{r['client_cpu_ms']:.1f}",
            ]
            for r in rows
        ]
        print(report.table(head, cells), flush=True)

    async def memory(self, known):
        """Measures resident memory along many requests."""
        total = 200 if self.quick else self.requests
        held = [self.server.memory()]
        for _ in range(10):
            numbers = itertools.count(1)
            enough = lambda n=numbers: next(n) <= total // 10
            tally, _ = await good.clients(self.port, known, 8, enough)
            self.check_tally(tally, "the many requests")
            held.append(self.server.memory())
        growth = held[-1] - held[1]
        self.found["memory"] = {
            "requests": total,
            "mib": held,
            "growth_mib": growth,
            "peak_mib": self.server.peak(),
        }
        self.check(growth < GROWTH, f"memory grew by {growth:.1f} MiB")
        print(
            f"\nMemory: {held[0]:.1f} MiB before {total} requests, {held[1]:.1f} after a tenth of them, "
            f"{held[-1]:.1f} after all; at most {self.server.peak():.1f}",
            flush=True,
        )

    async def long_recordings(self, known):
        """Measures the memory that recordings of the maximum duration leave behind."""
        seconds = 60 if self.quick else 600
        before = self.server.memory()
        sound = recordings.voice(self.voice, seconds)
        long = [good.Known(request(self.port, "POST", good.ROUTE, good.AUDIO, sound))]
        await good.learn(self.port, long)
        numbers = itertools.count(1)
        tally, _ = await good.clients(self.port, long, 4, lambda: next(numbers) <= 12)
        self.check_tally(tally, "long recordings")
        peak, after = self.server.peak(), self.server.memory()
        tally, _ = await good.clients(self.port, known, 4, good.until(0.5))
        self.check_tally(tally, "after long recordings")
        self.found["long"] = {
            "seconds": seconds,
            "before_mib": before,
            "after_mib": after,
            "peak_mib": peak,
            "ms": tally.percentile(50),
        }
        self.check(
            after - before < KEPT * report.processors(),
            f"long recordings left {after - before:.1f} MiB",
        )
        print(
            f"Recordings of {seconds} s, four at a time: {before:.1f} MiB before, at most {peak:.1f}, {after:.1f} after",
            flush=True,
        )

    async def overload(self, known):
        """Sends far more requests than the server can handle, without waiting for responses."""
        best = max(row["per_second"] for row in self.found["levels"])
        rate, seconds = OVERLOAD * best, 1 if self.quick else 10
        before, own = self.server.cpu(), own_cpu()
        tally, sent, took = await good.arrivals(self.port, known, rate, seconds)
        self.check_tally(tally, "overload")
        self.found["overload"] = {
            "wanted_per_second": rate,
            "sent_per_second": sent,
            "answered": tally.right,
            "answered_per_second": tally.right / took,
            "refused": tally.outcomes["429"],
            **quantiles(tally),
            "refused_p50": tally.percentile_of_refused(50),
            "refused_p99": tally.percentile_of_refused(99),
            "server_cpu_s": self.server.cpu() - before,
            "client_cpu_s": own_cpu() - own,
            "peak_mib": self.server.peak(),
            "load": report.load(),
        }
        self.check(tally.outcomes["429"] > 0, "the overload was none: nobody was told to come back")
        f = self.found["overload"]
        print(
            f"\nOverload: {rate:.0f} requests/s wanted, {sent:.0f} sent ({sent / best:.1f} times the greatest throughput): "
            f"{tally.right} answered ({f['answered_per_second']:.1f}/s, p50 {f['p50']:.0f}, p99 {f['p99']:.0f} ms), "
            f"{f['refused']} told to come back (p50 {f['refused_p50']:.0f}, p99 {f['refused_p99']:.0f} ms), "
            f"{sum(tally.wrong().values())} wrong; memory at most {f['peak_mib']:.1f} MiB",
            flush=True,
        )

    async def bad_input(self, known):
        """Sends invalid requests of every kind beside valid ones."""
        cases = bad.cases(self.port, self.voice)
        seconds = 2 if self.quick else 20
        (tally, _), (seen, wrong) = await asyncio.gather(
            good.clients(self.port, known, 4, good.until(seconds)),
            bad.clients(self.port, cases, 6, good.until(seconds)),
        )
        self.check_tally(tally, "beside bad input")
        self.check(not wrong, f"bad input: {dict(wrong)}")
        self.found["bad_input"] = {
            "kinds": len(cases),
            "outcomes": dict(seen),
            "good": dict(tally.outcomes),
            **quantiles(tally),
        }
        print(
            f"\nBad input of {len(cases)} kinds, {sum(seen.values())} times: {sum(wrong.values())} wrong outcomes; "
            f"beside it {tally.right} good requests, {sum(tally.wrong().values())} wrong (p99 {tally.percentile(99):.0f} ms)"
        )
        for outcome, times in sorted(seen.items()):
            print(f"  {times:6} {outcome}")
        sys.stdout.flush()

    async def rest(self):
        """Checks that nothing is held, queued or broken in the end."""
        await asyncio.sleep(0.3)
        text = (await once(self.port, request(self.port, "GET", "/metrics"))).body.decode()
        for name in [
            "maeum_queue_jobs",
            "maeum_running_jobs",
            "maeum_held_bytes",
            "maeum_open_streams",
            "maeum_panics_total",
        ]:
            value = float(re.search(rf"^{name} (\S+)$", text, re.MULTILINE).group(1))
            self.check(value == 0, f"{name} is {value:g} in the end")
        ready = await once(self.port, request(self.port, "GET", "/readyz"))
        self.check(ready.status == 200, f"/readyz answers {ready.status} in the end")

    async def everything(self):
        same = good.of_one_length(self.port, self.voice, SECONDS)
        mixed = good.of_all_kinds(self.port, self.voice)
        await good.learn(self.port, same + mixed)
        await self.levels(same)
        await self.memory(same)
        await self.overload(same)
        await self.bad_input(mixed)
        await self.long_recordings(same)
        await self.rest()


def quantiles(tally):
    return {f"p{p}": tally.percentile(p) for p in (50, 95, 99)}


def own_cpu():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
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
    parser.add_argument(
        "--requests", default=10_000, type=int, help="along which memory is watched"
    )
    parser.add_argument(
        "--quick", action="store_true", help="a few seconds instead of some minutes"
    )
    parser.add_argument("arguments", nargs="*", help="more for the server, after --")
    given = parser.parse_args()
    if not given.server.exists():
        parser.error(
            f"{given.server} is not there: cargo build --release --features serve --bin serve"
        )
    print(f"{report.machine()}, shared by client and server; load before: {report.load():.1f}")
    start = time.monotonic()
    arguments = ["--body-timeout", str(bad.BODY_SECONDS), *given.arguments]
    if given.quick:
        # A short queue is full within the overload of one second.
        arguments += ["--queue", "16"]
    with server.Server(given.server, arguments) as process:
        run = Run(process, given)
        asyncio.run(run.everything())
        run.check(process.end() == 0, "the server did not end well")
        run.check(b"panicked" not in process.logged(), "the server panicked")
    if not given.quick:
        best = max(row["per_second"] for row in run.found["levels"])
        at_8 = next(row["p99"] for row in run.found["levels"] if row["clients"] == 8)
        print(
            f"\nTargets for two processors with nothing else to do: {best:.0f} of {TARGET_RATE:g} recordings/s; "
            f"p99 at 8 clients {at_8:.0f} of {TARGET_MS:g} ms"
        )
    outcome = {
        "quick": given.quick,
        "machine": report.machine(),
        "seconds": time.monotonic() - start,
        **run.found,
        "faults": run.faults,
    }
    print(
        f"\n{'FAULTS: ' + str(len(run.faults)) if run.faults else 'No faults'}, {outcome['seconds']:.0f} s\n"
    )
    print(json.dumps(outcome))
    sys.exit(bool(run.faults))


if __name__ == "__main__":
    main()
