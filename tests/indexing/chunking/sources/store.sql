-- Copyright 2024 The Authors.
SET search_path = store;

-- Entries by key.
CREATE TABLE entries (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    changed TIMESTAMP DEFAULT now()
);

CREATE INDEX entries_by_change ON entries (changed);

CREATE VIEW recent_entries AS
SELECT key, value
FROM entries
WHERE changed > now() - interval '1 day';

CREATE OR REPLACE FUNCTION read_entry(wanted TEXT) RETURNS TEXT AS $$
BEGIN
    RETURN (SELECT value FROM entries WHERE key = wanted);
END;
$$ LANGUAGE plpgsql;

CREATE TRIGGER touch BEFORE UPDATE ON entries
FOR EACH ROW EXECUTE FUNCTION touch_entry();

CREATE TYPE mode AS ENUM ('read', 'write');

INSERT INTO entries (key, value)
VALUES
    ('a', '1'),
    ('b', '2');

SELECT key, count(*)
FROM entries
GROUP BY key
ORDER BY 2;
