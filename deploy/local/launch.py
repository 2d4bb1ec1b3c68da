"""Become another program: as another user if requested, and unable to outlive the process that
started it. Run with -I -S.

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
    parser.add_argument("--parent", type=int, help="the process whose death ends this one")
    parser.add_argument(
        "--signal", type=int, default=9, help="the signal that is sent when it dies"
    )
    parser.add_argument("--uid", type=int)
    parser.add_argument("--gid", type=int)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    libc = ctypes.CDLL(None, use_errno=True)
    if options.uid is not None:
        os.setgroups([])
        os.setgid(options.gid)
        os.setuid(options.uid)
    if options.parent is not None:
        if libc.prctl(PR_SET_PDEATHSIG, options.signal, 0, 0, 0):
            sys.exit("launch: the kernel refuses a death signal")
        if os.getppid() != options.parent:  # it died before the line above
            sys.exit("launch: the parent has ended")
    os.execvp(options.command[0], options.command)  # noqa: S606 - an argument list, no shell


if __name__ == "__main__":
    main()
