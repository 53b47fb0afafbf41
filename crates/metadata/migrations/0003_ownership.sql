-- Layer directories know how the owners of their files are kept, and each has the summary of the extraction that made it:
-- two directories of one layer differ in both.
--
-- Until now owners were set by root and recorded by anybody else, and an extraction by anybody else noted that at the root
-- of the layer, if nowhere else. The names of the directories stay.

CREATE TABLE extracted (
    id INTEGER PRIMARY KEY,
    diff_id TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
    chain_id TEXT NOT NULL DEFAULT '',
    root_path BLOB NOT NULL,
    form TEXT NOT NULL CHECK (form IN ('overlay', 'oci')),
    ownership TEXT NOT NULL CHECK (ownership IN ('preserve', 'record', 'squash', 'userns')),
    name TEXT NOT NULL,
    entries INTEGER NOT NULL,
    summary TEXT NOT NULL, -- JSON object: what this extraction skipped or altered
    synced INTEGER NOT NULL CHECK (synced IN (0, 1)),
    boot_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (diff_id, chain_id, root_path, form, ownership)
) STRICT;

INSERT INTO extracted
    SELECT d.id, d.diff_id, d.chain_id, d.root_path, d.form,
        CASE WHEN json_extract(l.summary, '$.notes."owner-recorded"') IS NULL
                AND json_extract(l.summary, '$.notes."owner-lost"') IS NULL THEN 'preserve' ELSE 'record' END,
        d.name, d.entries, l.summary, d.synced, d.boot_id, d.created_at
    FROM layer_directories d JOIN layers l USING (diff_id);

DROP TABLE layer_directories;
ALTER TABLE extracted RENAME TO layer_directories;

CREATE INDEX layer_directories_unsynced ON layer_directories (boot_id) WHERE synced = 0;
-- One tree has one name, and one row.
CREATE UNIQUE INDEX layer_directories_name ON layer_directories (root_path, name);
