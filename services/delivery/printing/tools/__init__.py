"""The tools for authors of designs: `stubline design new`, `list`, `check`, `preview` and `bench`.
They need no server.

target      which design a command means
new_design  a copy of a design as the start of another
samples     texts for fields and campaigns: usual ones, and hard ones
comparison  one design, both ways: as a sender prints it, and as WeasyPrint does
pictures    pages as pixels, and how far two of them differ
checks      faults and warnings of a design
legible     whether people and scanners can read it
previews    pictures of a design
bench       its stamping rate, beside WeasyPrint's in the same run
isolated    a process under limits, in which untried designs are laid out
watch       runs a command again at each change
"""
