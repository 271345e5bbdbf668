"""Measures the range view beside Home Assistant's own local media and beside nginx, in one run and in turns.

`.venvs/home-assistant/bin/python benchmarks/stream.py --json FILE`

One real Home Assistant serves the same file under both addresses, so both are measured with the same interpreter, the
same middlewares and the same signed links; nginx serves it with sendfile. In each round every server has its turn, and
the ratios are medians of the rounds' ratios. Server and clients have a core each where the machine has two.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial
import json
import os
from pathlib import Path
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

HERE = Path(__file__).parent
STALLED_DISK = HERE.parent / "tests" / "stream" / "stalled_disk.py"
MIB = 1024 * 1024
FILE_SIZE = 1024 * MIB
FILM_BYTES_S = 25e6 / 8
STALL_SECONDS = 13.0
"""Longer than the view waits for a disk."""

PEMUS, LOCAL, NGINX = "pemus", "home_assistant_local", "nginx"


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def spawn(arguments: list[str], core: int, **options: Any) -> subprocess.Popen[str]:
    """Start a process on one core, so that server and clients do not fight for the same one."""
    process = subprocess.Popen(arguments, text=True, **options)
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(process.pid, {cores[core % len(cores)]})
    return process


class HomeAssistant:
    """The server process, its addresses and its clock."""

    def __init__(self, folder: Path, files: list[Path]) -> None:
        """Start it and wait until it serves."""
        config = folder / "config"
        config.mkdir()
        self.port = free_port()
        self._log = (folder / "home-assistant.log").open("wb")
        self.process = spawn(
            [
                sys.executable,
                str(HERE / "stream_server.py"),
                str(config),
                str(self.port),
                *map(str, files),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            core=0,
        )
        self.paths = self._read()
        time.sleep(
            5
        )  # What Home Assistant does after its start is not what is measured.

    def _read(self) -> Any:
        assert self.process.stdout is not None
        if not (line := self.process.stdout.readline()):
            raise SystemExit(f"Home Assistant did not start; see {self._log.name}")
        return json.loads(line)

    def _say(self, word: str) -> None:
        assert self.process.stdin is not None
        print(word, file=self.process.stdin, flush=True)

    def lag(self, during: Callable[[], object]) -> dict[str, float]:
        """Return how late the event loop was, in milliseconds, while something went on."""
        self._say("start")
        during()
        self._say("stop")
        result: dict[str, float] = self._read()
        return result

    def cpu(self) -> float:
        """Return the seconds of processor time that were used up to now."""
        # What clock_getcpuclockid(3) returns. The times in /proc are in ticks, of which a fast machine takes only forty.
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def target(
        self, server: str, name: str, clients: int = 1, size: int = FILE_SIZE
    ) -> dict[str, Any]:
        """Say to the clients where a file is."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "path": self.paths[server][name],
            "size": size,
            "clients": clients,
        }

    def close(self) -> None:
        """Stop it."""
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream is not None:
                stream.close()


class Nginx:
    """nginx as it comes, with sendfile."""

    def __init__(self, folder: Path, media: Path) -> None:
        """Start it."""
        if (
            program := shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        ) is None:
            raise SystemExit(
                "nginx is missing, and the bars compare with it. On Debian or Ubuntu: apt install nginx-light"
            )
        self.port = free_port()
        config = folder / "nginx.conf"
        user = "user root;" if os.geteuid() == 0 else ""
        config.write_text(
            f"{user} worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/nginx.log;\n"
            "events { worker_connections 256; }\n"
            "http { access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;\n"
            f"  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};\n"
            f"  uwsgi_temp_path {folder}; scgi_temp_path {folder};\n"
            f"  server {{ listen 127.0.0.1:{self.port}; root {media}; }} }}\n"
        )
        self._process = spawn(
            [program, "-c", str(config), "-p", str(folder)],
            stderr=subprocess.DEVNULL,
            core=0,
        )
        time.sleep(0.5)

    def target(self, name: str, clients: int = 1) -> dict[str, Any]:
        """Say to the clients where a file is."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "path": f"/{name}",
            "size": FILE_SIZE,
            "clients": clients,
        }

    def close(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait(10)


def load_command(kind: str, seconds: float, target: dict[str, Any]) -> list[str]:
    """Return the command that runs clients."""
    script = str(HERE / "stream_load.py")
    return [sys.executable, script, kind, str(seconds), json.dumps(target)]


def load(kind: str, target: dict[str, Any], seconds: float = 0) -> dict[str, Any]:
    """Run clients in a process of their own and return what they say."""
    clients = spawn(load_command(kind, seconds, target), core=1, stdout=subprocess.PIPE)
    answer: dict[str, Any] = json.loads(clients.communicate()[0])
    if answer["errors"] and kind != "stalled":
        raise SystemExit(f"the clients failed: {answer['errors'][:3]}")
    return answer


def say(text: str) -> None:
    """Tell what is being done."""
    print(text, file=sys.stderr, flush=True)


def rounds(
    count: int, measure: dict[str, Callable[[], float]], warm: bool = True
) -> dict[str, list[float]]:
    """Give each server its turn, `count` times, beginning with another one each time."""
    if warm:
        for function in measure.values():
            function()
    results: dict[str, list[float]] = {name: [] for name in measure}
    names = list(measure)
    for index in range(count):
        shift = index % len(names)
        for name in names[shift:] + names[:shift]:
            results[name].append(measure[name]())
    return results


def figures(results: dict[str, list[float]], digits: int) -> dict[str, float]:
    """Return the median of each server's rounds."""
    return {
        name: round(statistics.median(values), digits)
        for name, values in results.items()
    }


def ratio(results: dict[str, list[float]], other: str) -> float:
    """Return the median of the rounds' ratios."""
    pairs = zip(results[PEMUS], results[other], strict=True)
    return round(statistics.median(mine / theirs for mine, theirs in pairs), 3)


class Benchmark:
    """All measurements, and what came out."""

    def __init__(
        self, home: HomeAssistant, nginx: Nginx, name: str, runs: int, seconds: float
    ) -> None:
        """Prepare to measure."""
        self.home = home
        self.nginx = nginx
        self.name = name
        self.runs = runs
        self.seconds = seconds
        self.result: dict[str, Any] = {}
        self.ratios: dict[str, float] = {}

    def target(self, server: str, clients: int = 1) -> dict[str, Any]:
        """Say to the clients where a server has the film."""
        if server == NGINX:
            return self.nginx.target(self.name, clients)
        return self.home.target(server, self.name, clients)

    def whole_file(self) -> None:
        """Measure the speed and the processor time of whole files, one client at a time."""
        say("whole file")
        cpu: dict[str, list[float]] = {PEMUS: [], LOCAL: []}

        def take(server: str) -> float:
            before = self.home.cpu()
            rates = [load("whole", self.target(server))["results"][0] for _ in range(3)]
            if server in cpu:
                cpu[server].append((self.home.cpu() - before) / (3 * FILE_SIZE / 1e9))
            return float(statistics.median(rates)) / 1e6

        results = rounds(
            self.runs, {s: partial(take, s) for s in (PEMUS, LOCAL, NGINX)}
        )
        cpu = {server: values[1:] for server, values in cpu.items()}
        self.result["whole_file_mb_s"] = figures(results, 1)
        self.ratios["whole_file_mb_s.pemus/home_assistant_local"] = ratio(
            results, LOCAL
        )
        self.ratios["whole_file_mb_s.pemus/nginx"] = ratio(results, NGINX)
        self.result["cpu_s_per_gb"] = figures(cpu, 4)
        self.ratios["cpu_s_per_gb.pemus/home_assistant_local"] = ratio(cpu, LOCAL)

    def ranges(self) -> None:
        """Measure requests for 1 MiB, eight clients at a time."""
        say("ranges of 1 MiB")

        def take(server: str) -> float:
            answer = load("ranges", self.target(server, 8), self.seconds)
            return float(sum(answer["results"]) / answer["seconds"])

        results = rounds(
            self.runs, {s: partial(take, s) for s in (PEMUS, LOCAL, NGINX)}
        )
        self.result["range_1mib_req_s"] = figures(results, 1)
        self.ratios["range_1mib_req_s.pemus/home_assistant_local"] = ratio(
            results, LOCAL
        )

    def first_byte(self) -> None:
        """Measure how soon the first byte comes."""
        say("first byte")

        def take(server: str) -> float:
            answer = load("first_byte", self.target(server), self.seconds)
            return float(statistics.median(answer["results"])) * 1000

        results = rounds(self.runs, {s: partial(take, s) for s in (PEMUS, LOCAL)})
        self.result["first_byte_ms_p50"] = figures(results, 3)
        self.ratios["first_byte_ms_p50.pemus/home_assistant_local"] = ratio(
            results, LOCAL
        )

    def lag(self) -> None:
        """Measure how late the event loop is while twenty clients are served."""
        say("lag of the event loop")
        seconds = self.seconds * 2

        def under(kind: str, server: str) -> float:
            target = self.home.target(server, self.name, 20)
            return self.home.lag(lambda: load(kind, target, seconds))["p99"]

        results = rounds(
            self.runs,
            {
                "idle": lambda: self.home.lag(lambda: time.sleep(seconds))["p99"],
                "films_20": lambda: under("film", PEMUS),
                "full_speed_20": lambda: under("endless", PEMUS),
                "home_assistant_local_full_speed_20": lambda: under("endless", LOCAL),
            },
            warm=False,
        )
        self.result["loop_lag_ms_p99"] = figures(results, 2)
        pairs = zip(
            results["full_speed_20"],
            results["home_assistant_local_full_speed_20"],
            strict=True,
        )
        self.ratios[
            "loop_lag_ms_p99.full_speed_20/home_assistant_local_full_speed_20"
        ] = round(statistics.median(mine / theirs for mine, theirs in pairs), 3)

    def stalled_disk(self, disk: subprocess.Popen[str], name: str) -> None:
        """Have twenty clients ask for a file on a disk that hangs, while a film plays from another."""
        say("a disk that hangs")

        def tell(word: str) -> None:
            assert disk.stdin is not None and disk.stdout is not None
            print(word, file=disk.stdin, flush=True)
            disk.stdout.readline()

        def during() -> None:
            clients = [
                spawn(
                    load_command(kind, STALL_SECONDS, target),
                    core=1,
                    stdout=subprocess.PIPE,
                )
                for kind, target in (
                    ("stalled", self.home.target(PEMUS, name, 20)),
                    ("film", self.home.target(PEMUS, self.name)),
                )
            ]
            time.sleep(1)
            tell("stall")
            stalled, film = (json.loads(client.communicate()[0]) for client in clients)
            tell("go")
            if (
                film["errors"]
                or film["results"][0] < 0.9 * STALL_SECONDS * FILM_BYTES_S
            ):
                raise SystemExit(
                    f"the film on the healthy disk did not play on: {film}"
                )
            if not sum(stalled["results"]):
                raise SystemExit("the disk did not hang")

        lags = [self.home.lag(during)["p99"] for _ in range(self.runs)]
        self.result["loop_lag_ms_p99"]["stalled_disk"] = round(
            statistics.median(lags), 2
        )


def bars(result: dict[str, Any], ratios: dict[str, float]) -> dict[str, bool]:
    """Return each bar of the range view, and whether it holds."""
    lag = result["loop_lag_ms_p99"]
    return {
        "whole file >= 0.9 of Home Assistant": ratios[
            "whole_file_mb_s.pemus/home_assistant_local"
        ]
        >= 0.9,
        "whole file >= 0.75 of nginx": ratios["whole_file_mb_s.pemus/nginx"] >= 0.75,
        "ranges >= 0.9 of Home Assistant": ratios[
            "range_1mib_req_s.pemus/home_assistant_local"
        ]
        >= 0.9,
        "processor <= 1.15 of Home Assistant": ratios[
            "cpu_s_per_gb.pemus/home_assistant_local"
        ]
        <= 1.15,
        "20 films: lag <= idle + 10 ms": lag["films_20"] <= lag["idle"] + 10,
        "full speed: lag <= 1.2 of Home Assistant": ratios[
            "loop_lag_ms_p99.full_speed_20/home_assistant_local_full_speed_20"
        ]
        <= 1.2,
        "stalled disk: lag <= 50 ms": lag["stalled_disk"] <= 50,
        "first byte <= 1.5 of Home Assistant": ratios[
            "first_byte_ms_p50.pemus/home_assistant_local"
        ]
        <= 1.5,
    }


def make_film(path: Path) -> None:
    """Write a file of which no two blocks are alike, and have it in memory."""
    block = os.urandom(MIB)
    with path.open("wb") as file:
        for index in range(FILE_SIZE // MIB):
            file.write(index.to_bytes(8, "big") + block[8:])


def main() -> int:
    """Measure everything, and tell whether the bars hold."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--runs",
        type=int,
        default=5,
        help="rounds of each measurement (at least 5 for the bars)",
    )
    parser.add_argument(
        "--seconds", type=float, default=2.0, help="length of one measurement"
    )
    options = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="pemus-bench-") as temporary:
        folder = Path(temporary)
        media = folder / "media"
        media.mkdir()
        film = media / "film.mp4"
        make_film(film)
        mount = folder / "stalled"
        mount.mkdir()
        disk = subprocess.Popen(
            [sys.executable, str(STALLED_DISK), str(mount)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert disk.stdout is not None
        try:
            stalled = mount / disk.stdout.readline().strip()
            home = HomeAssistant(folder, [film, stalled])
            try:
                nginx = Nginx(folder, media)
                try:
                    bench = Benchmark(
                        home, nginx, film.name, options.runs, options.seconds
                    )
                    bench.whole_file()
                    bench.ranges()
                    bench.first_byte()
                    bench.lag()
                    bench.stalled_disk(disk, stalled.name)
                finally:
                    nginx.close()
            finally:
                disk.terminate()
                home.close()
        finally:
            disk.terminate()
            disk.wait(10)

    held = bars(bench.result, bench.ratios)
    report = bench.result | {
        "ratios": bench.ratios,
        "bars": held,
        "machine": {
            "cores": len(os.sched_getaffinity(0)),
            "processor": platform.machine(),
            "kernel": platform.release(),
            "python": platform.python_version(),
        },
        "runs": options.runs,
    }
    text = json.dumps(report, indent=2)
    if options.json is not None:
        options.json.write_text(text + "\n")
    print(text)
    return 0 if all(held.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
