-- Indexes that are kept whole, every platform of them: for the images there are rows as always, and for what is no image
-- (attestations, signatures) the blobs are kept as they are.

CREATE TABLE whole_indexes (
    index_digest TEXT NOT NULL PRIMARY KEY REFERENCES indexes (digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- What a whole index needs beside its images: manifests that are none, with all that they list.
CREATE TABLE index_blobs (
    index_digest TEXT NOT NULL REFERENCES whole_indexes (index_digest) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    PRIMARY KEY (index_digest, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX index_blobs_digest ON index_blobs (digest);
