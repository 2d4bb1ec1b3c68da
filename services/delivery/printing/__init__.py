"""Designs become plates, plates become tickets: a design is laid out once by WeasyPrint, then only
what differs is stamped.

design      a folder: manifest, HTML with Jinja, CSS, images, fonts (designs.py)
plate       one design laid out for one campaign: fixed content, boxes of the fields, faces
            (compiler.py, plates.py)
stamp       a ticket's texts and code, as operators between the plate's (stamping.py, shaping.py,
            qr.py)
whole       the same page laid out by WeasyPrint with its texts in it: for what cannot be stamped,
            and as the truth (whole.py)

Both ways are written by one writer (pdf.py). Identical input gives identical bytes.
"""
