"""Low-overhead HTTP/1.1 client for asyncio: whole requests, responses with a length."""

import asyncio
import socket

# Send buffer in bytes, large enough that a recording of 6 s is sent at once.
SEND_BUFFER = 1 << 20


class Gone(Exception):
    """Error of a connection that ended before the response."""


class Answer:
    __slots__ = ("body", "head", "status")

    def __init__(self, status, head, body):
        self.status, self.head, self.body = status, head, body

    def header(self, name):
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name:
                return value.strip()
        return None


class Connection(asyncio.Protocol):
    """Connection with one request at a time."""

    def __init__(self):
        self.transport = None
        self.data = bytearray()
        self.waiter = None
        self.lost = False

    @classmethod
    async def open(cls, port):
        loop = asyncio.get_running_loop()
        plug = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        plug.setblocking(False)
        plug.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        plug.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await loop.sock_connect(plug, ("127.0.0.1", port))
        _, protocol = await loop.create_connection(cls, sock=plug)
        return protocol

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data
        self.answer_if_whole()

    def connection_lost(self, error):
        self.lost = True
        if self.waiter and not self.waiter.done():
            self.waiter.set_exception(Gone())

    def answer_if_whole(self):
        end = self.data.find(b"\r\n\r\n")
        if end < 0 or not self.waiter or self.waiter.done():
            return
        head = bytes(self.data[:end])
        status = int(head[9:12])
        answer = Answer(status, head, b"")
        length = int(answer.header(b"content-length") or 0)
        whole = end + 4 + length
        if len(self.data) < whole:
            return
        answer.body = bytes(self.data[end + 4 : whole])
        del self.data[:whole]
        self.waiter.set_result(answer)

    def send(self, data):
        self.transport.write(data)

    async def answer(self):
        if self.lost and not self.data:
            raise Gone
        self.waiter = asyncio.get_running_loop().create_future()
        self.answer_if_whole()
        return await self.waiter

    async def ask(self, request):
        if self.lost:
            raise Gone
        self.send(request)
        return await self.answer()

    def close(self):
        self.transport.abort()


async def once(port, request):
    """Sends one request over its own connection."""
    connection = await Connection.open(port)
    try:
        return await connection.ask(request)
    finally:
        connection.close()


def request(port, method, path, headers=(), body=b""):
    lines = [f"{method} {path} HTTP/1.1", f"Host: 127.0.0.1:{port}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def form(port, fields, name=None, sound=b""):
    """Returns an upload as a browser sends it."""
    boundary = "----------a-boundary-of-the-load-test"
    parts = []
    for key, value in fields:
        parts.append(
            f'--{boundary}\r\nContent-Disposition: form-data; name="{key}"\r\n\r\n{value}\r\n'.encode()
        )
    if name is not None:
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        parts.append(head.encode() + b"Content-Type: audio/wav\r\n\r\n" + sound + b"\r\n")
    parts.append(f"--{boundary}--\r\n".encode())
    kind = [("Content-Type", f"multipart/form-data; boundary={boundary}")]
    return request(port, "POST", "/v1/audio/emotion", kind, b"".join(parts))
