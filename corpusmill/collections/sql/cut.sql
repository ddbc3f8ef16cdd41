-- New and changed documents, in the order of the sources.
SELECT source, id, place, digest, line FROM new WHERE kind IN ('added', 'changed') ORDER BY no
