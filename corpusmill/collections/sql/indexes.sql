-- Made once all rows are there, which takes half of what keeping them up does.
CREATE INDEX old_by_id ON old (id);
CREATE INDEX new_by_old ON new (old);
