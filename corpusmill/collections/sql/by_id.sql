-- Same id alone: what is not taken yet was edited.
UPDATE new SET old = (SELECT document_no FROM old WHERE old.id = new.id), kind = 'changed'
WHERE new.old IS NULL AND EXISTS (
    SELECT 1 FROM old WHERE old.id = new.id
    AND NOT EXISTS (SELECT 1 FROM new AS other WHERE other.old = old.document_no)
);
