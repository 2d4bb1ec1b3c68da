"""Where people meet Stubline: the command line now. It owns no commands: each service mounts its
own.

In        what people type; entry points of the group `stubline.commands`
Out       tables for people, JSON for programs, exit codes for scripts
Owns      nothing in the database
Crash     a command that died may be sent again with its command id: done once, or not at all
Does not  write a service's tables: each command is a function of the service or of the runtime that
owns them
"""
