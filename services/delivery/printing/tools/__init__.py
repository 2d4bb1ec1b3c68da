"""What authors of designs work with: `stubline design new`, `list`, `check`, `preview` and `bench`.
Asks no server for anything.

target      which design a command means
samples     what is put into fields and campaigns: what is usual, and what is hard
proof       one design, both ways: as a sender prints it, and as WeasyPrint does
pictures    pages as pixels, and how far two of them differ
checks      faults and warnings of a design
previews    files to look at
bench       how fast it is, beside WeasyPrint in the same run
apart       a process with ceilings, in which designs are laid out that nobody has tried yet
watch       again with each change
"""
