-- Documents whose content is there already, under another name or at another place: the old one, then the new one.
SELECT old.document_no, old.source, old.id, old.place, old.digest, old.first_chunk, old.chunks,
       new.source, new.id, new.place, new.digest, new.line
FROM new JOIN old ON old.document_no = new.old
WHERE new.kind IN ('same', 'moved')
  AND NOT (old.source = new.source AND old.id = new.id AND old.place = new.place)
ORDER BY new.no
