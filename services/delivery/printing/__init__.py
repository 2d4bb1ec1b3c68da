"""A library that prints tickets: WeasyPrint lays a design out once, and then only what differs is
stamped. It imports nothing of delivery; what it prints is a `documents.Document`.

The stages, from a design to a file:

design      a folder: manifest, HTML with Jinja, CSS, images, fonts (design/)
template    one design for one campaign, parsed and ready to be laid out (compile/layout.py)
plate       a template laid out: fixed content, boxes of the fields, faces (compile/, plates.py),
            kept on disk (plate_cache.py)
stamp       a ticket's texts and code, as operators between the plate's (stamping.py,
            fonts/shaping.py, qr.py); what is written for speed is in fast.py
file        stamped pages as one PDF (pdf/)

A text that cannot be stamped, such as one in a script that combines letters, is laid out by
WeasyPrint and fixed in a plate of its own (compile/unstampable.py). All layout happens in a process
under limits (sandbox/). Both ways are written by one writer, and identical input
gives identical bytes (renderer.py). tools/ is what authors of designs work with.
"""
