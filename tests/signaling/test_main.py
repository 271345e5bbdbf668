"""The server as a process: how it starts, what it tells of itself, and how it stops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
import io
from ipaddress import ip_address
import json
import logging
import os
from pathlib import Path
import re
import signal
import ssl
import sys

import aiohttp
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
import pytest

from pemus_signaling import log
from pemus_signaling.net.sockets import Close
from tests.patience import PATIENCE
from tests.signaling.clients import Client, Identity, connected
from tests.signaling.server import http, running


class Process:
    """A server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[dict[str, str]] = []
        self.port = 0

    async def until(self, message: str) -> dict[str, str]:
        """Return the line of the log that says something."""
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            while line := await self.process.stderr.readline():
                self.lines.append(json.loads(line))
                if message in self.lines[-1]["message"]:
                    return self.lines[-1]
        raise AssertionError(f"it ended without having said: {message}")

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Return the exit status."""
        self.process.send_signal(number)
        assert self.process.stderr is not None
        async with asyncio.timeout(PATIENCE):
            for line in (await self.process.stderr.read()).splitlines():
                self.lines.append(json.loads(line))
            return await self.process.wait()


@asynccontextmanager
async def process(
    *arguments: str, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pemus_signaling",
        *("--host", "127.0.0.1", "--port", "0", *arguments),
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    server = Process(started)
    try:
        listening = await server.until("Listening")
        server.port = int(listening["message"].split()[-1])
        yield server
    finally:
        if started.returncode is None:
            started.kill()
        await started.communicate()


async def test_it_stops_when_it_is_told_to_and_tells_its_clients() -> None:
    async with (
        process("--retry-after", "8") as server,
        aiohttp.ClientSession() as session,
    ):
        url = f"http://127.0.0.1:{server.port}"
        clients = [
            Client(
                await session.ws_connect(
                    f"{url}/peerjs?key=peerjs&token=t&id=client-{n}"
                )
            )
            for n in range(5)
        ]
        for client in clients:
            assert await client.hear() == {"type": "OPEN"}
        async with session.get(f"{url}/readyz") as answer:
            assert answer.status == 200
        ends = [asyncio.ensure_future(client.end()) for client in clients]
        assert await server.end() == 0
        assert await asyncio.gather(*ends) == [Close.GOING_AWAY] * 5
        seconds = {float(client.reason) for client in clients}
        # Were they all the same, all would come back at once.
        assert len(seconds) > 1
        assert all(4 <= second <= 12 for second in seconds)


async def test_nothing_that_is_logged_tells_who_was_there() -> None:
    identity = Identity()
    async with (
        process("--log-level", "debug") as server,
        aiohttp.ClientSession() as session,
    ):
        url = f"http://127.0.0.1:{server.port}"
        async with session.ws_connect(
            f"{url}/peerjs?key=peerjs&token=sesame&id=alice-in-chains"
        ) as socket:
            await socket.receive(timeout=PATIENCE)
            await socket.send_str('{"type":"OFFER","dst":["pssst"]}')
            await socket.receive(timeout=PATIENCE)
        async with session.ws_connect(
            f"{url}/peerjs?key=peerjs&token=sesame&id={identity.id}"
        ) as socket:
            await socket.receive(timeout=PATIENCE)
            await socket.send_str('{"type":"PROVE","payload":"pssst"}')
            await socket.receive(timeout=PATIENCE)
        async with session.post(
            f"{url}/room", data=b"\x00pssst", headers={"Authorization": "Bearer sesame"}
        ) as answer:
            assert answer.status in (400, 401)
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"\x16\x03\x01pssst\r\n\r\n")
        await reader.read()
        writer.close()
        assert await server.end() == 0
    said = json.dumps(server.lines)
    for secret in ("127.0.0.1", "alice-in-chains", "sesame", "pssst", identity.id):
        assert secret not in said
    assert len(server.lines) >= 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--port", "nowhere"], "port: must be an integer"),
        (
            ["--certificate", "/nowhere/cert.pem", "--private-key", "/nowhere/key.pem"],
            "No such file",
        ),
        (["--host", "192.0.2.1", "--port", "9"], "assign requested address"),
    ],
)
async def test_it_says_why_it_cannot_start(
    arguments: list[str], complaint: str
) -> None:
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "pemus_signaling",
        *arguments,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE):
        _, said = await started.communicate()
    assert started.returncode == 1
    assert complaint in said.decode()
    assert "Traceback" not in said.decode()


async def test_it_speaks_tls_and_reads_a_new_certificate_when_it_is_told_to(
    tmp_path: Path,
) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_certificate(certificate, key, "first")
    async with process(
        "--certificate", str(certificate), "--private-key", str(key)
    ) as server:
        assert await name_of(server.port) == "first"
        context = ssl.create_default_context(cafile=str(certificate))
        identity = Identity()
        async with aiohttp.ClientSession() as session:
            url = f"https://127.0.0.1:{server.port}/peerjs?key=peerjs&token=t&id={identity.id}"
            async with session.ws_connect(url, ssl=context) as socket:
                home = Client(socket)
                signed = identity.sign(
                    f"https://127.0.0.1:{server.port}", await home.hear()
                )
                await home.say("PROVE", payload=signed)
                assert (await home.hear())["type"] == "OPEN"
                for size in (1, 1200, 20_000, 60_000):
                    await home.say("OFFER", dst=identity.id, payload="x" * size)
                    assert (await home.hear())["payload"] == "x" * size
                make_certificate(certificate, key, "second")
                server.process.send_signal(signal.SIGHUP)
                await server.until("reloaded")
                assert await name_of(server.port) == "second"
                certificate.write_text("nonsense")
                server.process.send_signal(signal.SIGHUP)
                await server.until("could not be read")
                assert await name_of(server.port) == "second"
                await home.say("OFFER", dst=identity.id, payload="still here")
                assert (await home.hear())["payload"] == "still here"


@pytest.mark.parametrize("host", ["::", "::1", "localhost"])
async def test_it_is_reached_over_both_kinds_of_addresses(host: str) -> None:
    async with running(host=host) as server, aiohttp.ClientSession() as session:
        addresses = {
            "::": ["127.0.0.1", "[::1]"],
            "::1": ["[::1]"],
            "localhost": ["127.0.0.1"],
        }[host]
        for address in addresses:
            url = f"http://{address}:{server.port}/peerjs?key=peerjs&token=t&id={Identity().id}"
            async with session.ws_connect(url) as socket:
                challenge = await Client(socket).hear()
                assert (
                    challenge["payload"]["origin"] == f"http://{address}:{server.port}"
                )


async def test_it_says_what_it_can_do() -> None:
    async with running(path="/signal/") as server, aiohttp.ClientSession() as session:
        async with session.get(http(server, "/signal/")) as answer:
            said = await answer.json()
            assert said["name"] == "PeMuS signalling server"
            assert said["features"] == ["identity", "tracker", "rooms"]
        for path in ("/healthz", "/readyz"):
            async with session.get(http(server, path)) as answer:
                assert (answer.status, await answer.text()) == (200, "ok")


async def test_monitoring_sees_numbers_and_no_names() -> None:
    async with running() as server, aiohttp.ClientSession() as session:
        async with connected(server, "alice") as alice, connected(server, "bob") as bob:
            await alice.say("OFFER", dst="bob")
            await bob.hear()
            async with session.get(http(server, "/metrics")) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain")
                text = await answer.text()
        numbers = dict(re.findall(r"^(pemus_[^ ]+) ([0-9.e+]+)$", text, re.MULTILINE))
        assert float(numbers["pemus_sockets"]) == 2
        assert float(numbers["pemus_peers"]) == 2
        assert float(numbers["pemus_messages_total"]) == 1
        assert float(numbers['pemus_peer_events_total{event="relayed"}']) == 1
        for name in ("announces", "offers", "answers"):
            assert float(numbers[f"pemus_tracker_{name}_total"]) == 0
        # Neither TURN nor a Redis is in use.
        assert "pemus_turn" not in text
        assert "pemus_nodes" not in text
        assert "process_resident_memory_bytes" in text
        assert "alice" not in text


async def test_not_everybody_sees_the_numbers() -> None:
    async with (
        running(metrics=("10.0.0.0/8",), trusted_proxies=("127.0.0.1/32",)) as server,
        aiohttp.ClientSession() as session,
    ):
        for address, status in [
            ("10.1.2.3", 200),
            ("192.0.2.1", 404),
            ("10.1.2.3, 192.0.2.1", 404),
        ]:
            async with session.get(
                http(server, "/metrics"), headers={"X-Forwarded-For": address}
            ) as answer:
                assert answer.status == status


async def test_a_server_that_stops_is_not_ready() -> None:
    async with running() as server, aiohttp.ClientSession() as session:
        server.is_ready = False
        async with session.get(http(server, "/readyz")) as answer:
            assert answer.status == 503


async def test_pages_may_be_asked_for_from_elsewhere() -> None:
    headers = {
        "Origin": "https://guest.example",
        "Access-Control-Request-Method": "PATCH",
        "Access-Control-Request-Headers": "authorization",
    }
    async with (
        running() as server,
        aiohttp.ClientSession() as session,
        session.options(http(server, "/room/a"), headers=headers) as answer,
    ):
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "PATCH" in answer.headers["Access-Control-Allow-Methods"]
        assert "Authorization" in answer.headers["Access-Control-Allow-Headers"]


def test_what_others_log_is_cut_down_to_what_is_always_the_same() -> None:
    stream = io.StringIO()
    former = logging.root.handlers[:], logging.root.level
    try:
        log.set_up("info", stream)
        logging.getLogger("aiohttp.server").error(
            "Error handling request from %s", "192.0.2.1"
        )
        logging.getLogger("aiohttp.server").info("hello")
        try:
            raise ValueError("192.0.2.1")
        except ValueError:
            logging.getLogger("pemus_signaling.net.front").exception("Something failed")
    finally:
        logging.root.handlers[:], logging.root.level = former
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["message"] for line in lines] == [
        "Error handling request from %s",
        "Something failed",
    ]
    assert (lines[1]["error"], lines[1]["logger"], lines[1]["level"]) == (
        "ValueError",
        "net.front",
        "error",
    )
    assert lines[1]["from"]
    assert "192.0.2.1" not in stream.getvalue()


def make_certificate(certificate: Path, key: Path, name: str) -> None:
    private = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
            critical=False,
        )
        .sign(private, hashes.SHA256())
    )
    certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


async def name_of(port: int) -> str:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    presented = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return str(
        x509.load_der_x509_certificate(presented)
        .subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0]
        .value
    )
