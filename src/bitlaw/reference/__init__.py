"""The reference study as data: a results table, training curves and radial profiles that come with bitlaw."""
