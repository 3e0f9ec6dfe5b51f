"""Documents out of files, folders, rows and data sets."""
