-- The documents of files that are not as they were: `old` of the collection, `new` of the sources, in order.
-- kind: same (id and content), moved (content under another id), changed (id), added. old: the one that it was.
CREATE TABLE old (
    document_no INTEGER PRIMARY KEY, source TEXT, id TEXT, place BLOB, digest BLOB, first_chunk INTEGER, chunks INTEGER
);
CREATE TABLE new (
    no INTEGER PRIMARY KEY, source TEXT, id TEXT, place BLOB, digest BLOB, line INTEGER, old INTEGER,
    kind TEXT DEFAULT 'added'
);
