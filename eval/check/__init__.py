"""``flatcoat check``: how well an index answers, measured on itself and compared with an earlier record."""
