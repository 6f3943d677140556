"""Results typed from papers: numbers and their sources, one row per published cell (``data/published/*.csv``)."""
