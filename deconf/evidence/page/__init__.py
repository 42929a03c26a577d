"""The report as one page: what is drawn and how it is laid out."""
