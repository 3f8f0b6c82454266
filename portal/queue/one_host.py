"""SQLite is one host's: a second host with its own ledger would fulfil the same orders again. Redis is what they share.

Hosts are told apart by the kernel's boot id, which all containers of one host have in common.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from redis import Redis

from portal.errors import PortalError

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")
_KEY: Final = "portal:sqlite:host"
#: Seconds for which a host is taken to run still after its acting sweep last said so.
CLAIM_SECONDS: Final = 60
_CLAIM: Final = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return 1
"""
#: File systems that other hosts may write, too: SQLite's locks don't reach them (sqlite.org/faq.html#q5).
_NETWORK: Final = (
    "nfs",
    "nfs4",
    "cifs",
    "smb3",
    "smbfs",
    "ceph",
    "glusterfs",
    "fuse.glusterfs",
    "fuse.sshfs",
    "lustre",
)


class TwoHosts(PortalError):
    """SQLite where another host works, too."""


def claim_host(redis: Redis) -> None:
    """Say that this host is the one whose SQLite ledger is in use. Raises TwoHosts where another one said so within
    CLAIM_SECONDS, redis.RedisError where that can't be asked.
    """
    try:
        me = _BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return  # no Linux: nobody can tell
    if not redis.eval(_CLAIM, 1, _KEY, me, CLAIM_SECONDS):
        raise TwoHosts(
            "DATABASE_URL is SQLite, which is for one host, and another host with an SQLite ledger uses this Redis: "
            "give all of them one PostgreSQL (if that host was stopped for good or has restarted, wait a minute)"
        )


def require_local(database: Path) -> None:
    """Raises TwoHosts where SQLite's file lies on a file system of the network."""
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace").splitlines()
        place = database.resolve()
    except OSError:
        return
    found = ("", "")
    for line in mounts:
        _, folder, kind, *_ = line.split(" ")
        folder = folder.replace("\\040", " ")
        if place.is_relative_to(folder) and len(folder) >= len(found[0]):
            found = (folder, kind)
    if found[1] in _NETWORK:
        raise TwoHosts(
            f"DATABASE_URL is SQLite on a file system of the network ({found[1]} at {found[0]}), whose locks can't be "
            "trusted: use PostgreSQL, or a disk of this host"
        )
