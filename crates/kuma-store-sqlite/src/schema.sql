-- Times are microseconds since 1970 in UTC. `sum` is a checksum over the other columns of the row (rows.rs).

-- One row: which store this is, and what the other tables must come to.
CREATE TABLE store (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    id TEXT NOT NULL,
    -- The latest commit.
    revision INTEGER NOT NULL,
    commit_id TEXT NOT NULL,
    at INTEGER NOT NULL,
    -- The oldest revision whose state can be told.
    floor INTEGER NOT NULL,
    -- How many rows `documents` has, and the sum of their checksums.
    documents INTEGER NOT NULL,
    digest INTEGER NOT NULL,
    sum INTEGER NOT NULL
) STRICT;

CREATE TABLE commits (
    revision INTEGER PRIMARY KEY,
    id TEXT NOT NULL,
    at INTEGER NOT NULL,
    author TEXT NOT NULL,
    via TEXT NOT NULL,
    note TEXT NOT NULL,
    -- How many rows of `changes` it has.
    changes INTEGER NOT NULL,
    sum INTEGER NOT NULL
) STRICT;

-- Without a version the document was deleted. With a version and without a spec it was a secret that is not kept.
CREATE TABLE changes (
    revision INTEGER NOT NULL,
    kind TEXT NOT NULL,
    mesh TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER,
    created INTEGER,
    spec TEXT,
    sum INTEGER NOT NULL,
    PRIMARY KEY (revision, kind, mesh, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX changes_of_document ON changes (kind, mesh, name, revision);

-- The documents at the latest commit.
CREATE TABLE documents (
    kind TEXT NOT NULL,
    mesh TEXT NOT NULL,
    name TEXT NOT NULL,
    revision INTEGER NOT NULL,
    version INTEGER NOT NULL,
    created INTEGER NOT NULL,
    modified INTEGER NOT NULL,
    spec TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (kind, mesh, name)
) STRICT, WITHOUT ROWID;

-- What proxies have reported to the control plane `instance`.
CREATE TABLE insights (
    mesh TEXT NOT NULL,
    name TEXT NOT NULL,
    instance TEXT NOT NULL,
    modified INTEGER NOT NULL,
    spec TEXT NOT NULL,
    sum INTEGER NOT NULL,
    PRIMARY KEY (mesh, name, instance)
) STRICT, WITHOUT ROWID;
