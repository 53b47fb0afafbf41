-- The first schema: blobs, documents, layers, their directories, image names and leases.
--
-- Digests are text, `algorithm:hex`. Times are milliseconds since 1970-01-01 UTC. Sizes are bytes.
-- `synced` says whether the file or directory was flushed to the disk; `boot_id` is the boot it was written under.

PRAGMA application_id = 0x756E6C64; -- "unld"

-- Blob files that are published in the store.
CREATE TABLE blobs (
    digest TEXT NOT NULL PRIMARY KEY,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    synced INTEGER NOT NULL CHECK (synced IN (0, 1)),
    boot_id TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX blobs_unsynced ON blobs (boot_id) WHERE synced = 0;

-- Index documents, and their entries in order.
CREATE TABLE indexes (
    digest TEXT NOT NULL PRIMARY KEY,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    artifact_type TEXT,
    subject_digest TEXT,
    annotations TEXT NOT NULL, -- JSON object
    created_at INTEGER NOT NULL,
    raw BLOB NOT NULL          -- the very bytes that the digest names
) STRICT;

CREATE TABLE index_entries (
    index_digest TEXT NOT NULL REFERENCES indexes (digest) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    has_platform INTEGER NOT NULL CHECK (has_platform IN (0, 1)),
    os TEXT,
    architecture TEXT,
    variant TEXT,
    os_version TEXT,
    os_features TEXT NOT NULL, -- JSON array
    artifact_type TEXT,
    urls TEXT NOT NULL,        -- JSON array
    annotations TEXT NOT NULL, -- JSON object
    PRIMARY KEY (index_digest, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX index_entries_digest ON index_entries (digest);

-- Image configurations: the document, and every field that an inspection shows. NULL is a field that is not there.
CREATE TABLE configs (
    digest TEXT NOT NULL PRIMARY KEY,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    created TEXT,
    author TEXT,
    architecture TEXT NOT NULL,
    variant TEXT,
    os TEXT NOT NULL,
    os_version TEXT,
    os_features TEXT,      -- JSON array
    docker_version TEXT,
    comment TEXT,
    container TEXT,
    parent TEXT,
    hostname TEXT,
    domainname TEXT,
    user TEXT,
    attach_stdin INTEGER,
    attach_stdout INTEGER,
    attach_stderr INTEGER,
    tty INTEGER,
    open_stdin INTEGER,
    stdin_once INTEGER,
    exposed_ports TEXT,    -- JSON object
    env TEXT,              -- JSON array
    cmd TEXT,              -- JSON array
    healthcheck TEXT,      -- JSON object
    args_escaped INTEGER,
    image TEXT,
    volumes TEXT,          -- JSON object
    working_dir TEXT,
    entrypoint TEXT,       -- JSON array
    network_disabled INTEGER,
    mac_address TEXT,
    on_build TEXT,         -- JSON array
    labels TEXT,           -- JSON object
    stop_signal TEXT,
    stop_timeout INTEGER,  -- seconds
    shell TEXT,            -- JSON array
    memory INTEGER,        -- bytes
    memory_swap INTEGER,   -- bytes
    cpu_shares INTEGER,
    history TEXT,          -- JSON array
    rootfs_type TEXT,
    diff_ids TEXT NOT NULL, -- JSON array
    created_at INTEGER NOT NULL,
    raw BLOB NOT NULL
) STRICT;

CREATE TABLE manifests (
    digest TEXT NOT NULL PRIMARY KEY,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    config_digest TEXT NOT NULL REFERENCES configs (digest),
    config_media_type TEXT NOT NULL,
    config_size INTEGER NOT NULL,
    artifact_type TEXT,
    subject_digest TEXT,
    layer_count INTEGER NOT NULL,
    compressed_size INTEGER NOT NULL, -- of all layers as they are listed
    annotations TEXT NOT NULL,        -- JSON object
    created_at INTEGER NOT NULL,
    raw BLOB NOT NULL
) STRICT;

CREATE INDEX manifests_config ON manifests (config_digest);

-- Layers by what they hold, whatever their compression.
CREATE TABLE layers (
    diff_id TEXT NOT NULL PRIMARY KEY,
    raw_size INTEGER NOT NULL CHECK (raw_size >= 0), -- of the tar stream
    entries INTEGER NOT NULL,
    is_empty INTEGER NOT NULL CHECK (is_empty IN (0, 1)),
    summary TEXT NOT NULL,                           -- JSON object: what extraction skipped or altered
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Which blob holds which layer. One layer may come as several blobs (another compression).
CREATE TABLE layer_blobs (
    blob_digest TEXT NOT NULL,
    diff_id TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
    compression TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (blob_digest, diff_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX layer_blobs_diff_id ON layer_blobs (diff_id);

-- The layers of a manifest in order, lowest first. `chain_id` is set where the layer alone does not give its files
-- and was extracted against the layers below it.
CREATE TABLE manifest_layers (
    manifest_digest TEXT NOT NULL REFERENCES manifests (digest) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    blob_digest TEXT NOT NULL,
    diff_id TEXT NOT NULL REFERENCES layers (diff_id),
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    chain_id TEXT,
    PRIMARY KEY (manifest_digest, position)
) STRICT, WITHOUT ROWID;

CREATE INDEX manifest_layers_blob ON manifest_layers (blob_digest);
CREATE INDEX manifest_layers_diff_id ON manifest_layers (diff_id);

-- Extracted layers. `root_path` is bytes: relative to the database's directory when it lies below it, else absolute.
-- `chain_id` is '' for a directory that holds the layer alone.
CREATE TABLE layer_directories (
    id INTEGER PRIMARY KEY,
    diff_id TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
    chain_id TEXT NOT NULL DEFAULT '',
    root_path BLOB NOT NULL,
    form TEXT NOT NULL CHECK (form IN ('overlay', 'oci')),
    name TEXT NOT NULL,
    entries INTEGER NOT NULL,
    synced INTEGER NOT NULL CHECK (synced IN (0, 1)),
    boot_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (diff_id, chain_id, root_path, form)
) STRICT;

CREATE INDEX layer_directories_unsynced ON layer_directories (boot_id) WHERE synced = 0;

-- Names: what was asked for, and the manifest that it led to. A name that has a digest is fixed by it, its tag is
-- kept to be shown; so (tag, no digest) and (tag, digest) are two names. The platform is the one asked for.
CREATE TABLE images (
    id INTEGER PRIMARY KEY,
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag TEXT,
    digest TEXT,
    platform TEXT NOT NULL,
    index_digest TEXT REFERENCES indexes (digest),
    manifest_digest TEXT NOT NULL REFERENCES manifests (digest),
    pulled_at INTEGER NOT NULL,
    last_used_at INTEGER NOT NULL,
    CHECK (tag IS NOT NULL OR digest IS NOT NULL)
) STRICT;

CREATE UNIQUE INDEX images_name
    ON images (repository, registry, coalesce(tag, ''), coalesce(digest, ''), platform);
CREATE INDEX images_manifest ON images (manifest_digest);
CREATE INDEX images_index ON images (index_digest);

-- What is in use, and by which process.
CREATE TABLE leases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    holder_pid INTEGER NOT NULL,
    holder_started INTEGER NOT NULL, -- clock ticks since boot
    holder_namespace TEXT NOT NULL,  -- the PID namespace
    boot_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

CREATE TABLE lease_items (
    lease_id INTEGER NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('blob', 'layer')),
    digest TEXT NOT NULL,
    PRIMARY KEY (kind, digest, lease_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX lease_items_lease ON lease_items (lease_id);
