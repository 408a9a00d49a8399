"""Every figure that the documents quote, re-runnable: ``make bench``."""
