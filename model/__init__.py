"""The protocol of the lanes in TLA+, and what runs it. README.md lists the questions, the results
and what follows from them.
"""
