"""The report: figures, headline numbers, and one page that needs no network."""
