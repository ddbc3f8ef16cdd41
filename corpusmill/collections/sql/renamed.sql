-- How many have the same id and content and lie in a file of another name.
SELECT count(*) FROM new JOIN old ON old.document_no = new.old WHERE new.kind = 'same' AND old.source <> new.source
