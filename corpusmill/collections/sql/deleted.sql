-- How many of the collection's documents are in no source.
SELECT count(*) FROM old WHERE NOT EXISTS (SELECT 1 FROM new WHERE new.old = old.document_no)
