"""The clients of the stream benchmark, in a process of their own.

They take bytes out of the socket without copying them (MSG_TRUNC), so that it is the server that is measured. Usage:
`stream_load.py KIND SECONDS JSON`, where the JSON object names host, port, path, size and the number of clients. The
answer is a JSON object on standard output.
"""

from __future__ import annotations

from collections.abc import Callable
import json
import random
import socket
import sys
import threading
import time
from typing import Any

MIB = 1024 * 1024
BUFFER = 4 * MIB
FILM_BYTES_S = 25_000_000 / 8
WINDOW_S = 0.05
RETRY_S = 1.0


class Client:
    """One connection that is kept alive."""

    def __init__(self, target: dict[str, Any]) -> None:
        """Connect."""
        self.target = target
        self.socket = socket.create_connection(
            (target["host"], target["port"]), timeout=60
        )
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(BUFFER)

    def ask(self, extra: str = "") -> int:
        """Send a request, take the head of the answer, and return how many bytes of body follow."""
        self.socket.sendall(
            f"GET {self.target['path']} HTTP/1.1\r\nHost: bench\r\n{extra}\r\n".encode()
        )
        head = b""
        while b"\r\n\r\n" not in head:
            # Looked at before it is taken: what follows the head must stay for `drop`.
            seen = self.socket.recv(4096, socket.MSG_PEEK)
            if not seen:
                raise ConnectionError("the server closed the connection")
            end = (head + seen).find(b"\r\n\r\n")
            take = len(seen) if end < 0 else end + 4 - len(head)
            head += self.socket.recv(take)
        status = int(head.split(b" ", 2)[1])
        if status not in {200, 206}:
            raise ConnectionError(f"status {status}")
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                return int(line.split(b":")[1])
        raise ConnectionError("no Content-Length")

    def drop(self, count: int) -> None:
        """Take `count` bytes of body."""
        while count:
            taken = self.socket.recv_into(
                self._buffer, min(count, BUFFER), socket.MSG_TRUNC
            )
            if not taken:
                raise ConnectionError("the body is short")
            count -= taken

    def close(self) -> None:
        """Hang up."""
        self.socket.close()


def whole(target: dict[str, Any], until: float) -> list[float]:
    """Take the whole file once; return the bytes per second."""
    client = Client(target)
    begin = time.perf_counter()
    size = client.ask()
    client.drop(size)
    took = time.perf_counter() - begin
    client.close()
    return [size / took]


def endless(target: dict[str, Any], until: float) -> list[float]:
    """Take the whole file again and again; return how many bytes came."""
    client = Client(target)
    taken = 0
    while time.perf_counter() < until:
        left = client.ask()
        while left and time.perf_counter() < until:
            count = min(left, BUFFER)
            client.drop(count)
            left -= count
            taken += count
    client.close()
    return [taken]


def film(target: dict[str, Any], until: float) -> list[float]:
    """Take 25 Mbit/s; return how many bytes came."""
    client = Client(target)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 256 * 1024)
    start = random.randrange(0, target["size"] // 2)
    # Twenty players do not breathe in step.
    time.sleep(random.uniform(0, WINDOW_S))
    client.ask(f"Range: bytes={start}-\r\n")
    begin = time.perf_counter()
    taken = 0
    while (now := time.perf_counter()) < until:
        due = int((now - begin) * FILM_BYTES_S) - taken
        if due > 0:
            client.drop(due)
            taken += due
        time.sleep(WINDOW_S)
    client.close()
    return [taken]


def ranges(target: dict[str, Any], until: float) -> list[float]:
    """Ask for random ranges of 1 MiB; return how many came."""
    client = Client(target)
    count = 0
    while time.perf_counter() < until:
        start = random.randrange(0, target["size"] // MIB) * MIB
        client.drop(client.ask(f"Range: bytes={start}-{start + MIB - 1}\r\n"))
        count += 1
    client.close()
    return [count]


def first_byte(target: dict[str, Any], until: float) -> list[float]:
    """Connect, ask for the rest of the file from somewhere; return the seconds until its first byte was there."""
    times = []
    while time.perf_counter() < until:
        start = random.randrange(0, target["size"] - 8 * MIB)
        client = Client(target)
        begin = time.perf_counter()
        client.ask(f"Range: bytes={start}-\r\n")
        client.drop(1)
        times.append(time.perf_counter() - begin)
        client.close()
        time.sleep(0.005)
    return times


def stalled(target: dict[str, Any], until: float) -> list[float]:
    """Ask for a file on a disk that hangs, again and again; return how often it was refused or cut."""
    failures = 0
    while time.perf_counter() < until:
        try:
            client = Client(target)
            client.socket.settimeout(max(0.1, until - time.perf_counter()))
            try:
                client.drop(client.ask())
            finally:
                client.close()
        except OSError:
            failures += 1
            time.sleep(RETRY_S)
    return [failures]


KINDS: dict[str, Callable[[dict[str, Any], float], list[float]]] = {
    function.__name__: function
    for function in (whole, endless, film, ranges, first_byte, stalled)
}


def main() -> None:
    """Run the clients and print what came out."""
    kind, seconds, target = sys.argv[1], float(sys.argv[2]), json.loads(sys.argv[3])
    results: list[float] = []
    errors: list[str] = []
    until = time.perf_counter() + seconds

    def work() -> None:
        try:
            results.extend(KINDS[kind](target, until))
        except OSError as err:
            errors.append(repr(err))

    begin = time.perf_counter()
    threads = [threading.Thread(target=work) for _ in range(target["clients"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(
        json.dumps(
            {
                "results": results,
                "seconds": time.perf_counter() - begin,
                "errors": errors,
            }
        )
    )


if __name__ == "__main__":
    main()
