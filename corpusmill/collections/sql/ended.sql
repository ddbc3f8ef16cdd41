-- The collection's documents that are not any more what and where they were.
SELECT document_no FROM old WHERE NOT EXISTS (
    SELECT 1 FROM new
    WHERE new.old = old.document_no AND new.kind IN ('same', 'moved')
      AND old.source = new.source AND old.id = new.id AND old.place = new.place
)
