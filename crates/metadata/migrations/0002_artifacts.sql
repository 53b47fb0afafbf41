-- Artifacts: names that lead to a manifest whose blobs are kept as they are, since it is no image.

CREATE TABLE artifacts (
    id INTEGER PRIMARY KEY,
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag TEXT,
    digest TEXT,
    manifest_digest TEXT NOT NULL,
    media_type TEXT NOT NULL,     -- of the manifest
    size INTEGER NOT NULL,        -- of the manifest
    artifact_type TEXT NOT NULL,
    annotations TEXT NOT NULL,    -- JSON object
    pulled_at INTEGER NOT NULL,
    CHECK (tag IS NOT NULL OR digest IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX artifacts_name
    ON artifacts (repository, registry, coalesce(tag, ''), coalesce(digest, ''));
CREATE INDEX artifacts_manifest ON artifacts (manifest_digest);

-- What an artifact is made of, in order: its configuration (position 0), then its blobs.
CREATE TABLE artifact_blobs (
    artifact_id INTEGER NOT NULL REFERENCES artifacts (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    annotations TEXT NOT NULL,    -- JSON object
    PRIMARY KEY (artifact_id, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX artifact_blobs_digest ON artifact_blobs (digest);
