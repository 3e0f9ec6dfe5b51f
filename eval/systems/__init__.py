"""Systems under test: anything that answers the queries of a data set."""
