-- Written by `cargo xtask migrations check --write`. Do not edit.

PRAGMA application_id = 1970170980;
PRAGMA user_version = 4;

CREATE TABLE artifact_blobs (
    artifact_id INTEGER NOT NULL REFERENCES artifacts (id) ON DELETE CASCADE,
    position INTEGER NOT NULL,
    digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    annotations TEXT NOT NULL,
    PRIMARY KEY (artifact_id, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE artifacts (
    id INTEGER PRIMARY KEY,
    registry TEXT NOT NULL,
    repository TEXT NOT NULL,
    tag TEXT,
    digest TEXT,
    manifest_digest TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    artifact_type TEXT NOT NULL,
    annotations TEXT NOT NULL,
    pulled_at INTEGER NOT NULL,
    CHECK (tag IS NOT NULL OR digest IS NOT NULL)
) STRICT;

CREATE TABLE blobs (
    digest TEXT NOT NULL PRIMARY KEY,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL CHECK (size >= 0),
    synced INTEGER NOT NULL CHECK (synced IN (0, 1)),
    boot_id TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

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
    os_features TEXT,
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
    exposed_ports TEXT,
    env TEXT,
    cmd TEXT,
    healthcheck TEXT,
    args_escaped INTEGER,
    image TEXT,
    volumes TEXT,
    working_dir TEXT,
    entrypoint TEXT,
    network_disabled INTEGER,
    mac_address TEXT,
    on_build TEXT,
    labels TEXT,
    stop_signal TEXT,
    stop_timeout INTEGER,
    shell TEXT,
    memory INTEGER,
    memory_swap INTEGER,
    cpu_shares INTEGER,
    history TEXT,
    rootfs_type TEXT,
    diff_ids TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    raw BLOB NOT NULL
) STRICT;

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

CREATE TABLE index_blobs (
    index_digest TEXT NOT NULL REFERENCES whole_indexes (index_digest) ON DELETE CASCADE,
    digest TEXT NOT NULL,
    PRIMARY KEY (index_digest, digest)
) STRICT, WITHOUT ROWID;

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
    os_features TEXT NOT NULL,
    artifact_type TEXT,
    urls TEXT NOT NULL,
    annotations TEXT NOT NULL,
    PRIMARY KEY (index_digest, position)
) STRICT, WITHOUT ROWID;

CREATE TABLE indexes (
    digest TEXT NOT NULL PRIMARY KEY,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    artifact_type TEXT,
    subject_digest TEXT,
    annotations TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    raw BLOB NOT NULL
) STRICT;

CREATE TABLE layer_blobs (
    blob_digest TEXT NOT NULL,
    diff_id TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
    compression TEXT NOT NULL,
    media_type TEXT NOT NULL,
    size INTEGER NOT NULL,
    PRIMARY KEY (blob_digest, diff_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE "layer_directories" (
    id INTEGER PRIMARY KEY,
    diff_id TEXT NOT NULL REFERENCES layers (diff_id) ON DELETE CASCADE,
    chain_id TEXT NOT NULL DEFAULT '',
    root_path BLOB NOT NULL,
    form TEXT NOT NULL CHECK (form IN ('overlay', 'oci')),
    ownership TEXT NOT NULL CHECK (ownership IN ('preserve', 'record', 'squash', 'userns')),
    name TEXT NOT NULL,
    entries INTEGER NOT NULL,
    summary TEXT NOT NULL,
    synced INTEGER NOT NULL CHECK (synced IN (0, 1)),
    boot_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (diff_id, chain_id, root_path, form, ownership)
) STRICT;

CREATE TABLE layers (
    diff_id TEXT NOT NULL PRIMARY KEY,
    raw_size INTEGER NOT NULL CHECK (raw_size >= 0),
    entries INTEGER NOT NULL,
    is_empty INTEGER NOT NULL CHECK (is_empty IN (0, 1)),
    summary TEXT NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE lease_items (
    lease_id INTEGER NOT NULL REFERENCES leases (id) ON DELETE CASCADE,
    kind TEXT NOT NULL CHECK (kind IN ('blob', 'layer')),
    digest TEXT NOT NULL,
    PRIMARY KEY (kind, digest, lease_id)
) STRICT, WITHOUT ROWID;

CREATE TABLE leases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    holder_pid INTEGER NOT NULL,
    holder_started INTEGER NOT NULL,
    holder_namespace TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;

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
    compressed_size INTEGER NOT NULL,
    annotations TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    raw BLOB NOT NULL
) STRICT;

CREATE TABLE whole_indexes (
    index_digest TEXT NOT NULL PRIMARY KEY REFERENCES indexes (digest) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE INDEX artifact_blobs_digest ON artifact_blobs (
    digest
);

CREATE INDEX artifacts_manifest ON artifacts (
    manifest_digest
);

CREATE UNIQUE INDEX artifacts_name ON artifacts (
    repository,
    registry,
    coalesce(tag, ''),
    coalesce(digest, '')
);

CREATE INDEX blobs_unsynced ON blobs (
    boot_id
) WHERE synced = 0;

CREATE INDEX images_index ON images (
    index_digest
);

CREATE INDEX images_manifest ON images (
    manifest_digest
);

CREATE UNIQUE INDEX images_name ON images (
    repository,
    registry,
    coalesce(tag, ''),
    coalesce(digest, ''),
    platform
);

CREATE INDEX index_blobs_digest ON index_blobs (
    digest
);

CREATE INDEX index_entries_digest ON index_entries (
    digest
);

CREATE INDEX layer_blobs_diff_id ON layer_blobs (
    diff_id
);

CREATE UNIQUE INDEX layer_directories_name ON layer_directories (
    root_path,
    name
);

CREATE INDEX layer_directories_unsynced ON layer_directories (
    boot_id
) WHERE synced = 0;

CREATE INDEX lease_items_lease ON lease_items (
    lease_id
);

CREATE INDEX manifest_layers_blob ON manifest_layers (
    blob_digest
);

CREATE INDEX manifest_layers_diff_id ON manifest_layers (
    diff_id
);

CREATE INDEX manifests_config ON manifests (
    config_digest
);
