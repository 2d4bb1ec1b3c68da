"""The command line of Stubline. It has only the commands that read several services; every other
command is mounted by the service that owns it.

In        what operators type; entry points of the group `stubline.commands`
Out       tables for people, JSON for programs, exit codes for scripts
Owns      nothing in the database
Crash     A command that died may be sent again with its command id: it is done once or not at all.
Does not  write a service's tables: each command is a function of the service or of the runtime that
          owns them
"""
