"""Refuse, inside one Python process, every connection but those to this machine's own loopback.

For machines where no network namespace may be made. A fresh environment (kaggle/fresh.py) gets a copy of this file and
loads it at the start of each of its Python processes, so it needs the standard library alone. It stops what goes
through Python's sockets. Programs that are not Python, and libraries that open sockets of their own, are not stopped
here: the environment gives those that heed it a proxy at which nobody answers.
"""

import errno
import sys

REFUSED = "the internet is off in this dry run"
LOCAL = ("", "localhost", "localhost.localdomain", "ip6-localhost", "::", "::1", "0.0.0.0")


def refuse_network() -> None:
    """From now on connecting or sending elsewhere is OSError ENETUNREACH, and looking a name up is socket.gaierror,
    as on a machine without a network. It cannot be undone, and costs 0.3 microseconds an audited call."""
    sys.addaudithook(_refuse)


def is_local(host) -> bool:
    """Whether an address or a name means this machine: its loopback, no host at all, or its own name."""
    if host is None:
        return True
    name = (host.decode(errors="replace") if isinstance(host, bytes) else str(host)).lower()
    if name in LOCAL or name.startswith(("127.", "::ffff:127.")):
        return True
    import socket

    return name == socket.gethostname().lower()


def _refuse(event: str, arguments: tuple) -> None:
    if not event.startswith("socket."):
        return
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        import socket

        sender, address = arguments[:2]
        internet = sender.family in (socket.AF_INET, socket.AF_INET6)
        if internet and isinstance(address, tuple) and not is_local(address[0]):
            raise OSError(errno.ENETUNREACH, f"{REFUSED}: {address[0]} cannot be reached")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
        if not is_local(host) and not _is_number(host):
            import socket

            raise socket.gaierror(socket.EAI_AGAIN, f"{REFUSED}: {host!r} cannot be looked up")


def _is_number(host) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(host.decode() if isinstance(host, bytes) else host)
    except ValueError:
        return False
    return True
