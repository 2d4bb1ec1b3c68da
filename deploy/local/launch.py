"""Becomes another program: without root's rights if asked, and unable to outlive the process that
asked. Run with -I -S.

A death signal ends with the thread that forked and is cleared when rights are dropped, hence this
step between fork and exec rather than a `preexec_fn`, which may deadlock in a process that has
threads.
"""

import argparse
import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--parent", type=int, help="the process whose death is ours too")
    parser.add_argument("--signal", type=int, default=9, help="what we get when it dies")
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("command", nargs="+")
    wish = parser.parse_args()
    libc = ctypes.CDLL(None, use_errno=True)
    if wish.uid is not None:
        os.setgroups([])
        os.setgid(wish.gid)
        os.setuid(wish.uid)
    if wish.parent is not None:
        if libc.prctl(PR_SET_PDEATHSIG, wish.signal, 0, 0, 0):
            sys.exit("launch: the kernel refuses a death signal")
        if os.getppid() != wish.parent:  # it died before the line above
            sys.exit("launch: the parent is gone")
    os.execvp(wish.command[0], wish.command)  # noqa: S606 - an argument list, no shell


if __name__ == "__main__":
    main()
