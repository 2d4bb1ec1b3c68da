"""From a design to a plate: laid out once by WeasyPrint, cut where tickets differ."""
