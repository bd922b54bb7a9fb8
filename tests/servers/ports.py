"""Free TCP ports on this machine."""

import random
import socket

LOOPBACK = "127.0.0.1"

# Below the range that the kernel hands to outgoing connections (32768 and up): a server that is killed and restarted
# must find its port still free. The companion ports of CANDIDATES, 10,000 higher, stay below it as well.
CANDIDATES = range(12_000, 22_000)


def free_port() -> int:
    """Return a port that nothing listens on."""
    return free_ports(1)[0]


def free_ports(count: int, *, companion_offset: int = 0) -> list[int]:
    """Return different ports that nothing listens on, nor on the ones `companion_offset` above each."""
    found: list[int] = []
    for port in random.SystemRandom().sample(CANDIDATES, 500):
        if len(found) == count:
            return found
        if _is_free(port) and _is_free(port + companion_offset):
            found.append(port)
    raise RuntimeError(f"500 ports tried on {LOOPBACK} from {CANDIDATES.start} up: not {count} of them are free")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True
