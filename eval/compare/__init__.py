"""Results side by side: tables, tests of significance, reports."""
