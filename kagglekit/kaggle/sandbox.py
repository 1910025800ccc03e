"""Shut the network off for one command: by a network namespace where the system allows one, else by refused sockets.

The dry run starts this file as a script in an environment without kagglekit, so it needs the standard library alone:
`python -I sandbox.py HOW FOLDER COMMAND...`, where HOW is namespace, sockets or none. A namespace also makes FOLDER
read-only. The command replaces this process once a test shows that no connection leaves the machine.

Containers, hardened systems and macOS allow no namespace. There each Python process of the fresh environment loads a
copy of this file and refuses sockets. Programs that are not Python, and libraries with sockets of their own, are not
stopped by that: the environment gives them a proxy at which nobody answers.
"""

import errno
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

HOWS = ("namespace", "sockets", "none")
NOT_ISOLATED = 96  # exit code of this script
LOADED = "dry_run_offline"  # the copy of this file that refuses sockets in a fresh environment
REFUSED = "the internet is off in this dry run"
LOCAL = ("", "localhost", "localhost.localdomain", "ip6-localhost", "::", "::1", "0.0.0.0")
ELSEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))  # nobody's addresses: RFC 5737, RFC 3849
NEW_MOUNTS, NEW_USER, NEW_NETWORK = 0x20000, 0x10000000, 0x40000000  # CLONE_NEW... of <sched.h>
PRIVATE, RECURSIVE, BIND, REMOUNT, READ_ONLY = 1 << 18, 1 << 14, 1 << 12, 1 << 5, 1  # MS_... of <sys/mount.h>
KEPT = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC if sys.platform == "linux" else 0  # a mount must not lose these
READ_FLAGS, WRITE_FLAGS, UP = 0x8913, 0x8914, 0x41  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP | IFF_RUNNING
DIE_WITH_PARENT, KILLED = 1, 9  # PR_SET_PDEATHSIG, SIGKILL


class NotIsolated(RuntimeError):
    """The network could not be shut off, or connections still leave the machine."""


def sandboxed(words: list, how: str, folder: Path, python: str | Path = sys.executable) -> list[str]:
    """The command that runs `words` in the sandbox. python: that of a fresh environment; how="sockets" needs one that
    was made with refuse=True."""
    return [str(word) for word in (python, "-I", Path(__file__).resolve(), how, folder, *words)]


def why_no_namespace(folder: Path) -> str:
    """Why no namespace without a network, with `folder` read-only, can be made here; "" where it can. Takes 0.1 s."""
    if sys.platform != "linux":
        return f"{sys.platform} has no network namespaces"
    words = sandboxed([sys.executable, "-I", "-S", "-c", ""], "namespace", folder)
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    return (done.stderr.strip() or f"exit code {done.returncode}") if done.returncode else ""


def enter_namespace(folder: str) -> None:
    """Move this process to a network of its own that has only a loopback, with `folder` read-only.

    Needs no rights where user namespaces are allowed; the user and the owners of files stay. Raises NotIsolated.
    """
    import ctypes

    system = ctypes.CDLL(None, use_errno=True)
    user, group, before = os.geteuid(), os.getegid(), os.stat("/proc/self/ns/net").st_ino

    def call(name: str, *arguments) -> None:
        if getattr(system, name)(*arguments) != 0:
            raise NotIsolated(f"{name} is refused: {os.strerror(ctypes.get_errno())}")

    try:
        if user != 0 or system.unshare(NEW_NETWORK | NEW_MOUNTS) != 0:  # root of a container may mostly not do this
            call("unshare", NEW_USER | NEW_NETWORK | NEW_MOUNTS)
            Path("/proc/self/setgroups").write_text("deny")
            Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
            Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
        place, flags = os.fsencode(folder), os.statvfs(folder).f_flag & KEPT | REMOUNT | BIND | READ_ONLY
        call("mount", b"none", b"/", None, ctypes.c_ulong(PRIVATE | RECURSIVE), None)
        call("mount", place, place, None, ctypes.c_ulong(BIND), None)
        call("mount", b"none", place, None, ctypes.c_ulong(flags), None)
        _raise_loopback()
    except OSError as error:
        raise NotIsolated(f"the namespace is refused: {error}") from error
    if os.stat("/proc/self/ns/net").st_ino == before:
        raise NotIsolated("the network is still that of the machine")


def _raise_loopback() -> None:
    """Bring up `lo`, which is down in a new network namespace: Jupyter's kernels talk over it."""
    import fcntl

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, READ_FLAGS, struct.pack("16sh22x", b"lo", 0))
        flags = struct.unpack("16sh22x", request)[1]
        fcntl.ioctl(any_socket, WRITE_FLAGS, struct.pack("16sh22x", b"lo", flags | UP))


def refuse_network() -> None:
    """Refuse, in this Python process and for good, every connection but those to the loopback.

    Connecting or sending elsewhere is OSError ENETUNREACH and looking up a name socket.gaierror, as on a machine
    without a network. Costs 0.3 microseconds for each audited call.
    """
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple) -> None:
    if event in ("socket.connect", "socket.sendto", "socket.sendmsg"):
        sender, address = arguments[:2]
        internet = sender.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple)
        if internet and not _is_local(address[0]):
            raise OSError(errno.ENETUNREACH, f"{REFUSED}: {address[0]} cannot be reached")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"):
        host = arguments[0]
        if not _is_local(host) and set(_text(host)) - set("0123456789abcdef.:"):  # an address needs no look-up
            raise socket.gaierror(socket.EAI_AGAIN, f"{REFUSED}: {host!r} cannot be looked up")


def _text(host) -> str:
    return (host.decode(errors="replace") if isinstance(host, bytes) else str(host or "")).lower()


def _is_local(host) -> bool:
    """Whether an address or a name means this machine: its loopback, no host at all, or its own name."""
    name = _text(host)
    return name in LOCAL or name.startswith(("127.", "::ffff:127.")) or name == socket.gethostname().lower()


def prove_offline() -> None:
    """Raise NotIsolated unless connections elsewhere are unreachable at once, while one to the loopback works."""
    for family, host in ELSEWHERE:
        try:
            with socket.socket(family, socket.SOCK_STREAM) as outside:
                outside.settimeout(3)
                outside.connect((host, 80))
        except OSError as error:
            if error.errno in (errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                continue
            raise NotIsolated(f"a connection to {host} was tried, not refused ({error}): the network is on") from None
        raise NotIsolated(f"a connection to {host} was made: the network is on")
    with socket.create_server(("127.0.0.1", 0)) as server:
        try:
            socket.create_connection(server.getsockname(), timeout=3).close()
        except OSError as error:
            raise NotIsolated(f"the loopback does not work ({error}), and a notebook needs it") from error


def main(how: str, folder: str, *words: str) -> None:
    """Isolate, prove it, become the command. Exit code 96 with the reason on stderr when that does not work."""
    try:
        if how not in HOWS:
            raise NotIsolated(f"{how!r} is none of {', '.join(HOWS)}")
        if how == "namespace":
            enter_namespace(folder)
        if how == "sockets" and LOADED not in sys.modules:
            raise NotIsolated("this environment does not refuse sockets: it was made with refuse=False")
        if how != "none":
            prove_offline()
    except NotIsolated as error:
        print(error, file=sys.stderr)
        sys.exit(NOT_ISOLATED)
    if sys.platform == "linux":  # be killed together with the dry run that started this
        import ctypes

        ctypes.CDLL(None).prctl(DIE_WITH_PARENT, KILLED, 0, 0, 0)
    os.execvp(words[0], words)


if __name__ == "__main__":
    main(*sys.argv[1:])
