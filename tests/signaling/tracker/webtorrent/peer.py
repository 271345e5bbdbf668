"""libtorrent as one peer. Takes one JSON object per line and answers with one, until its input ends.

    python peer.py

It is a process of its own, for the end of a session waits for its trackers.
"""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256
import json
import os
from pathlib import Path
import sys
from typing import Any

import libtorrent as lt

SESSION = lt.session(
    {
        "listen_interfaces": "127.0.0.1:0",
        "enable_dht": False,
        "enable_lsd": False,
        "enable_upnp": False,
        "enable_natpmp": False,
        "enable_incoming_tcp": False,
        "enable_outgoing_tcp": False,
        "enable_incoming_utp": False,
        "enable_outgoing_utp": False,
        "allow_multiple_connections_per_ip": True,
        "ssrf_mitigation": False,
        "webtorrent_stun_server": "",
        "alert_mask": lt.alert.category_t.tracker_notification
        | lt.alert.category_t.error_notification,
    }
)
FAULTS: list[str] = []
HANDLES: list[Any] = []
FILES: list[Path] = []


def add(ask: dict[str, Any]) -> dict[str, Any]:
    parameters = lt.add_torrent_params()
    parameters.ti = lt.torrent_info(lt.bdecode(b64decode(ask["torrent"])))
    parameters.save_path = ask["folder"]
    parameters.trackers = [ask["tracker"]]
    parameters.flags &= ~lt.torrent_flags.auto_managed
    parameters.flags &= ~lt.torrent_flags.paused
    FILES.append(Path(ask["folder"], parameters.ti.name()))
    HANDLES.append(SESSION.add_torrent(parameters))
    return {}


def state(_ask: dict[str, Any]) -> dict[str, Any]:
    FAULTS.extend(
        alert.message()
        for alert in SESSION.pop_alerts()
        if isinstance(alert, lt.tracker_error_alert | lt.torrent_error_alert)
    )
    status = HANDLES[0].status()
    return {"done": status.is_seeding, "peers": status.num_peers, "faults": FAULTS}


def hashed(_ask: dict[str, Any]) -> dict[str, Any]:
    HANDLES[0].flush_cache()
    return {"sha256": sha256(FILES[0].read_bytes()).hexdigest()}


WORK = {"add": add, "state": state, "hash": hashed}

print("{}", flush=True)
for line in sys.stdin:
    request = json.loads(line)
    print(json.dumps(WORK[request["do"]](request)), flush=True)
os._exit(0)
