"""Whether Redis (or Valkey) is there, takes writes, keeps them over a restart and throws nothing out."""

from __future__ import annotations

from typing import Any

from redis.exceptions import AuthenticationError, RedisError, ResponseError

from portal.ops.doctor.model import Check, Context, Finding, error, good, warning
from portal.ops.doctor.settings import SOUND

_KEY = "portal:doctor"


def _reachable(context: Context) -> Finding:
    try:
        info: dict[str, Any] = context.redis.info("everything")
    except AuthenticationError:
        return error("Redis refuses the user or password of REDIS_URL")
    except ResponseError as refused:
        return error(f"Redis answers, but not to INFO: {str(refused).partition(' ')[0]}")
    except (RedisError, OSError) as failure:
        return error(f"Redis can't be reached ({type(failure).__name__})")
    context.found["redis"] = info
    name = "Valkey" if "valkey_version" in info else "Redis"
    return good(f"{name} {info.get('valkey_version', info.get('redis_version', ''))}")


def _writes(context: Context) -> Finding:
    info = context.found["redis"]
    if info.get("role") != "master":
        return error("this server is a replica: it refuses writes")
    most, used = int(info.get("maxmemory", 0)), int(info.get("used_memory", 0))
    if most and used >= most:
        return error(f"its memory is full: {used} of {most} bytes")
    if "err" in (info.get("aof_last_write_status"), info.get("rdb_last_bgsave_status")):
        return error("it couldn't write to its disk lately, and so refuses writes")
    if context.write_test:
        try:
            context.redis.set(_KEY, "1", px=60_000)
            context.redis.delete(_KEY)
        except ResponseError as refused:
            return error(f"it refuses writes: {str(refused).partition(' ')[0]}")
        except RedisError as failure:
            return error(f"a write failed ({type(failure).__name__})")
        return good("a key was written and deleted")
    if most and used > 0.8 * most:
        return warning(f"its memory is nearly full: {used} of {most} bytes")
    return good()


def _persistence(context: Context) -> Finding:
    if context.found["redis"].get("aof_enabled"):
        return good("append-only file")
    try:
        save: Any = context.redis.config_get("save")
    except RedisError:
        return warning("the append-only file is off; whether snapshots are taken it doesn't tell")
    if save.get("save"):
        return warning("snapshots only: a restart forgets the nonces and jobs since the last one")
    return error("it keeps nothing over a restart: nonces would be forgotten, and a replayed request let in")


def _eviction(context: Context) -> Finding:
    policy = context.found["redis"].get("maxmemory_policy", "")
    if policy != "noeviction":
        return error(f"maxmemory-policy is {policy}: when memory is short, nonces and jobs vanish in silence")
    return good()


CHECKS = (
    Check(
        id="redis.reachable",
        description="Redis answers",
        run=_reachable,
        cure="Start Redis, or mend REDIS_URL",
        needs=SOUND,
        retry=True,
    ),
    Check(
        id="redis.writes",
        description="Redis takes writes",
        run=_writes,
        cure="Point REDIS_URL at the primary (or at Sentinel), and give it memory and disk",
        needs=("redis.reachable",),
        retry=True,
    ),
    Check(
        id="redis.persistence",
        description="Redis remembers over a restart",
        run=_persistence,
        cure="Set `appendonly yes` and `appendfsync everysec`",
        needs=("redis.reachable",),
    ),
    Check(
        id="redis.eviction",
        description="Redis throws nothing out",
        run=_eviction,
        cure="Set `maxmemory-policy noeviction`, with a maxmemory far above need",
        needs=("redis.reachable",),
    ),
)
