"""Server under test: its process and its resource usage."""

import os
import pathlib
import re
import signal
import subprocess
import tempfile
import time

TICKS = os.sysconf("SC_CLK_TCK")
# Start timeout in seconds; the self-test of the 2020 model takes seconds on a busy machine.
START_SECONDS = 60
END_SECONDS = 60


class Server:
    """Starts the server on a free loopback port; ends it with the block."""

    def __init__(self, program, arguments):
        self.log = tempfile.TemporaryFile()
        command = [program, "--port", "0", *arguments]
        self.process = subprocess.Popen(command, stderr=self.log)
        try:
            self.port = int(self._wait_for(rb"listening on http://127\.0\.0\.1:(\d+)").group(1))
            self._wait_for(rb"self-test has passed")
        except BaseException:
            self.process.kill()
            raise

    def _wait_for(self, pattern):
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self.process.poll() is None:
            if found := re.search(pattern, self.logged()):
                return found
            time.sleep(0.01)
        raise SystemExit(f"the server did not start: {self.logged().decode(errors='replace')}")

    def logged(self):
        size = os.fstat(self.log.fileno()).st_size
        return os.pread(self.log.fileno(), size, 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self):
        """Ends the server; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def _status(self, key):
        text = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"^{key}:\s+(\d+)", text, re.MULTILINE).group(1))

    def memory(self):
        """Returns the resident memory in MiB."""
        return self._status("VmRSS") / 1024

    def peak(self):
        return self._status("VmHWM") / 1024

    def cpu(self):
        """Returns the used processor time in seconds."""
        text = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text()
        fields = text.rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS
