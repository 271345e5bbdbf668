"""The engine's environment is made whole or not at all, in bounded time, and why not is said. All with the real uv."""

from concurrent.futures import ThreadPoolExecutor
import hashlib
import json
import os
from pathlib import Path
import platform
import subprocess
import sys
import tarfile
import threading
import time
from urllib.parse import unquote
from zipfile import ZipFile

from homeassistant.core import HomeAssistant
import pytest

from custom_components.pemus.const import DOMAIN
from custom_components.pemus.engine import provision
from custom_components.pemus.engine.process import Engine, EngineState
from custom_components.pemus.engine.provision import (
    Limit,
    LimitedReason,
    Provisioner,
    ProvisionError,
)
from custom_components.pemus.p2p.models import (
    EngineConfig,
    Kind,
    SearchQuery,
    ShareConfig,
)
from tests.patience import Stopwatch, until

from .conftest import ENVIRONMENT


@pytest.fixture
def cache(hass: HomeAssistant) -> Path:
    return Path(hass.config.path(".cache", DOMAIN))


@pytest.fixture
def provisioner(hass: HomeAssistant, cache: Path) -> Provisioner:
    return Provisioner(hass, cache)


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have environments made with the interpreter of the developers' one: a download would take minutes."""
    python = (ENVIRONMENT / "bin" / "python").resolve()
    monkeypatch.setenv("PEMUS_ENGINE_PYTHON", str(python))
    return python


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV_OFFLINE", "1")


def fake_uv(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, script: str) -> None:
    """Put a script in uv's place."""
    uv = tmp_path / "uv"
    uv.write_text(f"#!/bin/sh\n{script}\n")
    uv.chmod(0o755)
    monkeypatch.setattr(provision, "_find_uv", lambda: str(uv))


def ready_environment(cache: Path, name: str, used: float) -> Path:
    environment = cache / "environments" / name
    (environment / "bin").mkdir(parents=True)
    (environment / "bin" / "python").symlink_to(sys.executable)
    (environment / provision._USED).touch()
    os.utime(environment / provision._USED, (used, used))
    return environment


def entries(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()}


@pytest.fixture
def local_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an index of one package, which has the developers' libraries, and have a home install that."""
    (libraries,) = ENVIRONMENT.glob("lib/python*/site-packages")
    index = tmp_path / "index"
    (index / "libraries").mkdir(parents=True)
    wheel = index / "libraries" / "libraries-1.0-py3-none-any.whl"
    described = "libraries-1.0.dist-info"
    with ZipFile(wheel, "w") as archive:
        for name, text in (
            ("libraries.pth", f"{libraries}\n"),
            (
                f"{described}/METADATA",
                "Metadata-Version: 2.1\nName: libraries\nVersion: 1.0\n",
            ),
            (
                f"{described}/WHEEL",
                "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            ),
            (
                f"{described}/RECORD",
                "".join(
                    f"{each},,\n"
                    for each in (
                        "libraries.pth",
                        *(
                            f"{described}/{part}"
                            for part in ("METADATA", "WHEEL", "RECORD")
                        ),
                    )
                ),
            ),
        ):
            archive.writestr(name, text)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    (index / "libraries" / "index.html").write_text(
        f'<a href="{wheel.name}#sha256={digest}">{wheel.name}</a>'
    )
    requirements = tmp_path / "requirements.txt"
    requirements.write_text(f"libraries==1.0 --hash=sha256:{digest}\n")
    monkeypatch.setattr(provision, "REQUIREMENTS", requirements)
    monkeypatch.setenv("UV_DEFAULT_INDEX", index.as_uri())
    return index


async def test_a_package_that_is_not_the_pinned_one_is_not_installed(
    provisioner: Provisioner, cache: Path, interpreter: Path, local_index: Path
) -> None:
    with ZipFile(next(local_index.glob("*/*.whl")), "a") as archive:
        archive.writestr("more.py", "")
    with pytest.raises(ProvisionError) as failed:
        await provisioner.async_make()
    assert failed.value.reason.limit is Limit.FAILED
    assert entries(cache / "environments") == set()


@pytest.mark.usefixtures("local_index")
async def test_a_home_gets_the_environment_and_the_engine_moves_in(
    hass: HomeAssistant, cache: Path, interpreter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SUPERVISOR_TOKEN", "secret")
    # What Home Assistant's containers set must not lead uv astray.
    monkeypatch.setenv("UV_SYSTEM_PYTHON", "true")
    monkeypatch.setenv("UV_NO_CACHE", "true")
    monkeypatch.setenv("UV_EXTRA_INDEX_URL", "http://127.0.0.1:9/wheels")
    monkeypatch.setenv("VIRTUAL_ENV", "/nowhere")
    partial = cache / "environments" / ".partial-of-an-earlier-run"
    partial.mkdir(parents=True)
    engine = Engine(hass)
    had_libtorrent: list[bool] = []

    def note(_event: object) -> None:
        if engine.status is not None:
            has = engine.status.capabilities["libtorrent"] is not None
            had_libtorrent.append(has)

    engine.async_subscribe(note)
    await engine.async_start()
    try:
        assert had_libtorrent[0] is False, "the engine does not wait for it"
        assert engine.status is not None
        await until(
            lambda: (
                engine.limited
                or (engine.status and engine.status.capabilities["libtorrent"])
            ),
        )
        assert engine.limited is None
        assert engine.state is EngineState.RUNNING
        assert None not in engine.status.capabilities.values()
        assert entries(cache / "environments") == {provision._environment_name()}
        assert not (cache / "uv").exists()
        running = Path(f"/proc/{engine.status.pid}/cmdline").read_bytes()
        assert running.startswith(os.fsencode(cache / "environments"))
    finally:
        await engine.async_stop()

    # The next start of the home finds it at once, also without a network.
    monkeypatch.setenv("UV_OFFLINE", "1")
    again = Engine(hass)
    with Stopwatch() as watch:
        await again.async_start()
    try:
        assert watch.seconds < 10
        assert again.status is not None
        assert again.status.capabilities["libtorrent"]
    finally:
        await again.async_remove()
    assert not cache.exists()


async def test_offline_the_engine_runs_with_what_the_home_has(
    hass: HomeAssistant, cache: Path, interpreter: Path, offline: None, tmp_path: Path
) -> None:
    films = tmp_path / "films"
    films.mkdir()
    (films / "Ärger.mp4").write_bytes(b"not really a film")
    engine = Engine(hass)
    await engine.async_start()
    try:
        await until(lambda: engine.limited)
        assert engine.limited is not None
        assert engine.limited.limit is Limit.OFFLINE
        assert engine.limited.placeholders["detail"]
        assert entries(cache / "environments") == set()
        assert engine.state is EngineState.RUNNING
        share = ShareConfig(
            id="films", path=str(films), name="Films", kinds=(Kind.VIDEO,)
        )
        await engine.async_configure(EngineConfig(home_name="Casa", shares=(share,)))
        await until(lambda: engine.status and engine.status.counts.video)
        assert [node.id for node in (await engine.client.browse("")).children] == [
            "all/video"
        ]
        found = await engine.client.search(SearchQuery(text="ärger"))
        assert [item.name for item in found.items] == ["Ärger.mp4"]
    finally:
        await engine.async_stop()


async def test_an_index_out_of_reach_is_being_offline(
    provisioner: Provisioner, interpreter: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    with pytest.raises(ProvisionError) as failed:
        await provisioner.async_make()
    reason = failed.value.reason
    assert reason.limit is Limit.OFFLINE
    assert reason.hosts == ("127.0.0.1",)
    assert "127.0.0.1" in reason.placeholders["reason"]


@pytest.fixture
def no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system have no interpreter for the engine, so that it has to be downloaded."""
    monkeypatch.delenv("PEMUS_ENGINE_PYTHON", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")


@pytest.mark.usefixtures("no_interpreter")
async def test_the_repair_names_the_host_that_has_the_interpreter(
    provisioner: Provisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", "http://ada:secret@127.0.0.1:9/py")
    with pytest.raises(ProvisionError) as failed:
        await provisioner.async_make()
    reason = failed.value.reason
    assert reason.limit is Limit.OFFLINE
    assert reason.hosts == ("127.0.0.1",)
    assert "secret" not in reason.placeholders["reason"]


@pytest.mark.usefixtures("no_interpreter")
async def test_an_interpreter_that_is_not_the_pinned_one_is_refused(
    provisioner: Provisioner,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (url,) = interpreter_urls(f"{platform.machine()}-gnu")
    build, name = url.split("/")[-2:]
    (tmp_path / "mirror" / build).mkdir(parents=True)
    with tarfile.open(tmp_path / "mirror" / build / unquote(name), "w:gz") as other:
        other.add(__file__, "python/bin/python3.13")
    monkeypatch.setenv("UV_PYTHON_INSTALL_MIRROR", f"file://{tmp_path}/mirror")

    with pytest.raises(ProvisionError) as failed:
        await provisioner.async_make()

    expected, _, computed, _ = failed.value.reason.detail.lower().splitlines()
    assert (expected, computed) == ("expected:", "computed:")
    assert entries(cache / "environments") == set()


def interpreter_urls(machine: str) -> list[str]:
    """Return where Home Assistant's uv gets the engine's interpreter from, for one kind of machine."""
    known = subprocess.run(
        [
            *(provision._find_uv(), "python", "list", "--no-config"),
            *("--all-platforms", "--all-arches", "--only-downloads"),
            *("--show-urls", "--output-format", "json", provision.PYTHON_VERSION),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [
        each["url"]
        for each in json.loads(known)
        if each["key"] == f"cpython-{provision.PYTHON_VERSION}-linux-{machine}"
    ]


@pytest.mark.parametrize(
    "machine", ["x86_64-gnu", "x86_64-musl", "aarch64-gnu", "aarch64-musl"]
)
def test_the_uv_of_home_assistant_knows_the_interpreter(machine: str) -> None:
    (url,) = interpreter_urls(machine)
    assert url.startswith("https://")


async def test_an_interpreter_of_an_earlier_release_is_not_taken(
    provisioner: Provisioner,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PEMUS_ENGINE_PYTHON", raising=False)
    asked = tmp_path / "asked"
    fake_uv(monkeypatch, tmp_path, f'echo "$@" >> {asked}; exit 2')
    with pytest.raises(ProvisionError):
        await provisioner.async_make()
    managed, found = asked.read_text().splitlines()
    assert f"--managed-python --python {provision.PYTHON_VERSION}" in managed
    assert provision.PYTHON_VERSION.count(".") == 2
    assert "--no-managed-python --python 3.13 " in found

    # A release with another interpreter makes another environment.
    name = provision._environment_name()
    monkeypatch.setattr(provision, "PYTHON_VERSION", "3.13.99")
    assert provision._environment_name() != name


async def test_interpreters_that_nothing_uses_are_removed(
    provisioner: Provisioner, cache: Path
) -> None:
    for version in ("3.13.1", "3.13.2", "3.13.3"):
        binary = cache / "python" / f"cpython-{version}-linux" / "bin"
        binary.mkdir(parents=True)
        (binary / "python").touch()
    (cache / "python" / "cpython-3.13-linux").symlink_to("cpython-3.13.1-linux")
    environments = []
    for number, version in ((1, "3.13.1"), (2, "3.13.2"), (3, "3.13.3")):
        environment = ready_environment(cache, f"release-{number}", used=number)
        (environment / "bin" / "python").unlink()
        (environment / "bin" / "python").symlink_to(
            cache / "python" / f"cpython-{version}-linux" / "bin" / "python"
        )
        environments.append(environment)
    environments[-1].rename(cache / "environments" / ".partial-x")

    provisioner._adopt(cache / "environments" / ".partial-x", "release-3")

    assert entries(cache / "environments") == {"release-2", "release-3"}
    assert entries(cache / "python") == {
        "cpython-3.13.2-linux",
        "cpython-3.13.3-linux",
    }


async def test_a_broken_environment_is_discarded_without_holding_up_the_home(
    provisioner: Provisioner, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = ready_environment(cache, provision._environment_name(), used=1)
    read_by: list[threading.Thread] = []
    real = provision._environment_name

    def name() -> str:
        read_by.append(threading.current_thread())
        return real()

    monkeypatch.setattr(provision, "_environment_name", name)

    await provisioner.async_discard()

    assert not environment.exists()
    assert read_by
    assert threading.main_thread() not in read_by


async def test_no_interpreter_to_be_had_is_told(
    provisioner: Provisioner, offline: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PEMUS_ENGINE_PYTHON", raising=False)
    monkeypatch.setattr(provision, "PYTHON_VERSION", "3.99.1")
    with pytest.raises(ProvisionError) as failed:
        await provisioner.async_make()
    assert failed.value.reason.limit in (Limit.OFFLINE, Limit.UNSUPPORTED, Limit.FAILED)
    assert "3.99" in failed.value.reason.detail


@pytest.mark.parametrize(
    ("said", "limit"),
    [
        ("error: Failed to fetch: `https://pypi.org/simple/av/`", Limit.OFFLINE),
        ("  cause: dns error", Limit.OFFLINE),
        (
            "error: failed to write: No space left on device (os error 28)",
            Limit.DISK_FULL,
        ),
        ("  x No solution found when resolving dependencies", Limit.UNSUPPORTED),
        (
            "error: libtorrent has no wheels with a matching platform tag",
            Limit.UNSUPPORTED,
        ),
        (
            "  x No solution found: it could not be found because the network was disabled",
            Limit.OFFLINE,
        ),
        ("error: the moon is full", Limit.FAILED),
        ("", Limit.FAILED),
    ],
)
async def test_what_uv_says_becomes_a_reason(
    provisioner: Provisioner,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    said: str,
    limit: Limit,
) -> None:
    fake_uv(monkeypatch, tmp_path, f"echo '{said.replace('`', '')}' >&2; exit 2")
    with pytest.raises(ProvisionError) as failed:
        await provisioner.async_make()
    hosts = ("pypi.org",) if "pypi.org" in said else ()
    assert failed.value.reason == LimitedReason(
        limit=limit, detail=said.replace("`", "").strip(), hosts=hosts
    )
    assert entries(cache / "environments") == set()


async def test_a_flood_of_words_is_cut(
    provisioner: Provisioner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_uv(
        monkeypatch,
        tmp_path,
        "head -c 20000000 /dev/zero | tr '\\0' x; for n in 1 2 3 4 5 6; do echo line $n; done; exit 1",
    )
    with pytest.raises(ProvisionError) as failed:
        await provisioner.async_make()
    assert failed.value.reason.detail == "line 3\nline 4\nline 5\nline 6"


async def test_uv_that_hangs_is_ended_with_all_that_it_started(
    provisioner: Provisioner,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pids = tmp_path / "pids"
    fake_uv(
        monkeypatch,
        tmp_path,
        f"trap '' TERM; sleep 1000 & echo $$ $! > {pids}; touch $0.started; wait",
    )
    monkeypatch.setattr(provision, "PROVISION_TIMEOUT", 1)
    with Stopwatch() as watch, pytest.raises(ProvisionError) as failed:
        await provisioner.async_make()
    assert failed.value.reason.limit is Limit.TIMEOUT
    assert watch.seconds < 5
    await until(lambda: not any(is_running(pid) for pid in pids.read_text().split()))
    assert entries(cache / "environments") == set()


async def test_stopping_the_engine_ends_uv(
    hass: HomeAssistant, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pids = tmp_path / "pids"
    fake_uv(
        monkeypatch,
        tmp_path,
        f"mkdir -p $8/bin; sleep 1000 & echo $$ $! > {pids}; wait",
    )
    engine = Engine(hass)
    await engine.async_start()
    await until(pids.exists)
    await until(lambda: len(pids.read_text().split()) == 2)
    await engine.async_stop()
    await until(lambda: not any(is_running(pid) for pid in pids.read_text().split()))
    assert entries(cache / "environments") == set()


async def test_an_environment_that_does_not_work_is_not_kept(
    provisioner: Provisioner,
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # It makes an environment all right, but one with nothing in it.
    fake_uv(
        monkeypatch,
        tmp_path,
        f'if [ "$1" = venv ]; then for last; do :; done; {sys.executable} -m venv --without-pip "$last"; fi',
    )
    with pytest.raises(ProvisionError) as failed:
        await provisioner.async_make()
    assert failed.value.reason.limit is Limit.UNSUPPORTED
    assert "No module named" in failed.value.reason.detail
    assert entries(cache / "environments") == set()
    assert await provisioner.async_find() is None


async def test_a_half_made_environment_is_never_found(
    provisioner: Provisioner, cache: Path
) -> None:
    name = f".partial-{provision._environment_name()}"
    ready_environment(cache, name, used=1)
    assert await provisioner.async_find() is None


async def test_an_environment_whose_interpreter_is_gone_is_not_found(
    provisioner: Provisioner, cache: Path
) -> None:
    environment = ready_environment(cache, provision._environment_name(), used=1)
    assert await provisioner.async_find() == environment / "bin" / "python"
    (environment / "bin" / "python").unlink()
    (environment / "bin" / "python").symlink_to("/nowhere/python")
    assert await provisioner.async_find() is None


async def test_the_environment_before_is_kept_and_older_ones_are_not(
    provisioner: Provisioner, cache: Path
) -> None:
    for age in range(1, 5):
        ready_environment(cache, f"release-{age}", used=1000 - age)
    partial = ready_environment(cache, ".partial-x", used=0)
    name = provision._environment_name()
    provisioner._adopt(partial, name)
    assert entries(cache / "environments") == {name, "release-1"}


async def test_a_stop_while_it_is_put_in_place_leaves_all_or_nothing(
    provisioner: Provisioner, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partial = ready_environment(cache, ".partial-x", used=0)
    name = provision._environment_name()
    moving = threading.Event()

    def sync_slowly() -> None:
        moving.set()
        time.sleep(0.3)

    monkeypatch.setattr(os, "sync", sync_slowly)
    with ThreadPoolExecutor() as threads:
        adopting = threads.submit(provisioner._adopt, partial, name)
        moving.wait()
        # What the cancelled task does while its thread goes on.
        threads.submit(provisioner._clean_up).result()
        assert adopting.result().exists()
    assert entries(cache / "environments" / name) == {"bin", provision._USED}


async def test_choosing_an_environment_keeps_it_young(
    provisioner: Provisioner, cache: Path
) -> None:
    current = ready_environment(cache, provision._environment_name(), used=1)
    await provisioner.async_find()
    assert time.time() - provision._last_use(current) < 60


async def test_a_release_with_other_pins_has_another_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = provision._environment_name()
    changed = tmp_path / "requirements.txt"
    changed.write_bytes(provision.REQUIREMENTS.read_bytes() + b"\n")
    monkeypatch.setattr(provision, "REQUIREMENTS", changed)
    assert provision._environment_name() != before
    monkeypatch.undo()
    assert provision._environment_name() == before


async def test_a_folder_that_cannot_be_written_is_told(
    provisioner: Provisioner, cache: Path
) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("this is a file")
    with pytest.raises(ProvisionError) as failed:
        await provisioner.async_make()
    assert failed.value.reason.limit is Limit.FAILED
    assert str(cache) in failed.value.reason.detail


async def test_a_full_disk_is_told(
    provisioner: Provisioner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(_self: Provisioner) -> Path:
        # /dev/full is the system's own full disk.
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")
        raise AssertionError("the disk was not full")

    monkeypatch.setattr(Provisioner, "_prepare", fill)
    with pytest.raises(ProvisionError) as failed:
        await provisioner.async_make()
    assert failed.value.reason.limit is Limit.DISK_FULL


def test_uv_hears_of_nothing_but_how_to_reach_the_internet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in (
        "SUPERVISOR_TOKEN",
        "UV_SYSTEM_PYTHON",
        "UV_EXTRA_INDEX_URL",
        "UV_PYTHON",
        "VIRTUAL_ENV",
        "PYTHONPATH",
        "LD_PRELOAD",
    ):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    environ = provision.clean_environ(provision._PASSED_TO_UV)
    assert "x" not in environ.values()
    assert environ["https_proxy"] == "http://proxy:3128"


def test_stand_ins_of_pyenv_are_not_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/home/x/.pyenv/shims:/usr/bin")
    assert provision._path_without_shims() == "/usr/bin"


def test_uv_is_the_homes_own() -> None:
    found = subprocess.run(
        [provision._find_uv(), "--version"], capture_output=True, text=True, check=True
    )
    assert found.stdout.startswith("uv ")


def test_without_uv_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uv", None)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ProvisionError, match="uv is not installed"):
        provision._find_uv()


def is_running(pid: str) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
