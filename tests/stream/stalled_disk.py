"""A file system with one file, which stops answering when it is told to: what a dead network share looks like.

It speaks the kernel's FUSE protocol itself, so it needs no library; mounting takes root, or else fusermount3. Usage: `stalled_disk.py FOLDER`.
It prints the file's name when it is mounted, then obeys lines on standard input, confirming each with `ok`: `stall` (no
request is answered), `stall-from N` (nothing is read from offset N on), `go` (all is answered, also what was held back).
It unmounts and ends when standard input is closed.

Attributes are never cached, so that even an fstat of an open file hangs while the disk does.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import signal
import socket
import stat
import struct
import subprocess
import sys

NAME = b"stalled.mp4"
SIZE = 64 * 1024 * 1024
PAGE = 4096
MTIME = 1_700_000_000

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH = (
    1,
    2,
    3,
    14,
    15,
    17,
    18,
    25,
)
INIT, OPENDIR, READDIR, RELEASEDIR, INTERRUPT, DESTROY, BATCH_FORGET = (
    26,
    27,
    28,
    29,
    36,
    38,
    42,
)
UNANSWERED = {FORGET, INTERRUPT, BATCH_FORGET}
ROOT, FILE = 1, 2
MNT_DETACH = 2


def content(offset: int, size: int) -> bytes:
    """Return bytes of the file: every page repeats its own number."""
    size = max(0, min(size, SIZE - offset))
    first, last = offset // PAGE, (offset + size + PAGE - 1) // PAGE
    pages = b"".join(
        page.to_bytes(8, "big") * (PAGE // 8) for page in range(first, last)
    )
    return pages[offset - first * PAGE :][:size]


def attributes(node: int) -> bytes:
    mode, size = (
        (stat.S_IFDIR | 0o755, 0) if node == ROOT else (stat.S_IFREG | 0o644, SIZE)
    )
    times = (MTIME, MTIME, MTIME, 0, 0, 0)
    return struct.pack(
        "<QQQQQQIIIIIIIIII", node, size, size // 512, *times, mode, 1, 0, 0, 0, PAGE, 0
    )


class Disk:
    def __init__(self, device: int) -> None:
        self.device = device
        self.stall_all = False
        self.stall_from: int | None = None
        self.held: list[bytes] = []

    def serve(self, request: bytes) -> None:
        if self.stalls(request):
            self.held.append(request)
        else:
            self.answer(request)

    def stalls(self, request: bytes) -> bool:
        opcode = struct.unpack_from("<I", request, 4)[0]
        if self.stall_all:
            return True
        if opcode == READ and self.stall_from is not None:
            offset, size = struct.unpack_from("<QI", request, 48)
            return bool(offset + size > self.stall_from)
        return False

    def answer(self, request: bytes) -> None:
        _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
        if opcode in UNANSWERED:
            return
        body, error = self.reply(opcode, node, request[40:])
        os.write(
            self.device, struct.pack("<IiQ", 16 + len(body), -error, unique) + body
        )

    def reply(self, opcode: int, node: int, argument: bytes) -> tuple[bytes, int]:
        match opcode:
            case _ if opcode == INIT:
                return struct.pack(
                    "<IIIIHHIIHHI28x", 7, 31, 131072, 0, 16, 12, 131072, 1, 0, 0, 0
                ), 0
            case _ if opcode == LOOKUP:
                if argument.rstrip(b"\0") != NAME:
                    return b"", errno.ENOENT
                return struct.pack("<QQQQII", FILE, 0, 0, 0, 0, 0) + attributes(FILE), 0
            case _ if opcode == GETATTR:
                return struct.pack("<QII", 0, 0, 0) + attributes(node), 0
            case _ if opcode in {OPEN, OPENDIR}:
                return struct.pack("<QII", 0, 0, 0), 0
            case _ if opcode == READ:
                offset, size = struct.unpack_from("<QI", argument, 8)
                return content(offset, size), 0
            case _ if opcode == STATFS:
                return struct.pack(
                    "<QQQQQIIII24x", 1, 0, 0, 1, 0, PAGE, 255, PAGE, 0
                ), 0
            case _ if opcode in {RELEASE, RELEASEDIR, FLUSH, READDIR, DESTROY}:
                return b"", 0
        return b"", errno.ENOSYS

    def obey(self, line: str) -> None:
        command, _, number = line.partition(" ")
        if command == "go":
            self.stall_all, self.stall_from = False, None
            held, self.held = self.held, []
            for request in held:
                self.answer(request)
        elif command == "stall":
            self.stall_all = True
        elif command == "stall-from":
            self.stall_from = int(number)
        print("ok", flush=True)


def mount(folder: str) -> int:
    """Mount, and return the descriptor on which the kernel asks."""
    if os.geteuid() != 0:
        return mount_as_user(folder)
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"stalled", os.fsencode(folder), b"fuse.stalled", 1 | 2 | 4, options):
        raise SystemExit(f"cannot mount: {os.strerror(ctypes.get_errno())}")
    return device


def mount_as_user(folder: str) -> int:
    """Have fusermount3 mount, which hands over the descriptor through a socket."""
    here, there = socket.socketpair()
    with here, there:
        subprocess.run(
            ["fusermount3", "-o", "fsname=stalled,subtype=stalled", "--", folder],
            env=os.environ | {"_FUSE_COMMFD": str(there.fileno())},
            pass_fds=[there.fileno()],
            check=True,
        )
        _, descriptors, _, _ = socket.recv_fds(here, 1, 1)
    return descriptors[0]


def unmount(folder: str) -> None:
    """Unmount at once, whoever still uses it."""
    if os.geteuid() == 0:
        ctypes.CDLL(None).umount2(os.fsencode(folder), MNT_DETACH)
    else:
        subprocess.run(
            ["fusermount3", "-u", "-z", folder], capture_output=True, check=False
        )


def main() -> None:
    folder = sys.argv[1]
    device = mount(folder)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    disk = Disk(device)
    print(os.fsdecode(NAME), flush=True)
    try:
        while True:
            ready, _, _ = select.select([device, 0], [], [])
            if device in ready:
                disk.serve(os.read(device, 1 << 20))
            if 0 in ready:
                if not (line := os.read(0, 4096)):
                    return
                for command in line.decode().split("\n"):
                    if command:
                        disk.obey(command)
    finally:
        # What still hangs on the file system gets an error when the device is closed.
        unmount(folder)
        os.close(device)


if __name__ == "__main__":
    main()
