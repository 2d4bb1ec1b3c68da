"""From a design to a plate: WeasyPrint lays a page out once; it is cut where tickets differ."""
