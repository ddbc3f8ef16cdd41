-- Same id and same content.
UPDATE new SET
    old = (SELECT document_no FROM old WHERE old.id = new.id AND old.digest = new.digest),
    kind = 'same'
WHERE EXISTS (SELECT 1 FROM old WHERE old.id = new.id AND old.digest = new.digest);
-- Same content alone: of several alike the first goes with the first.
CREATE TEMP TABLE moved AS
WITH
    gone AS (
        SELECT document_no, digest, row_number() OVER (PARTITION BY digest ORDER BY document_no) AS nth
        FROM old WHERE NOT EXISTS (SELECT 1 FROM new WHERE new.old = old.document_no)
    ),
    came AS (
        SELECT no, digest, row_number() OVER (PARTITION BY digest ORDER BY no) AS nth
        FROM new WHERE new.old IS NULL
    )
SELECT came.no, gone.document_no FROM came JOIN gone USING (digest, nth);
CREATE UNIQUE INDEX temp.moved_by_no ON moved (no);
UPDATE new SET old = (SELECT document_no FROM moved WHERE moved.no = new.no), kind = 'moved'
WHERE no IN (SELECT no FROM moved);
