-- The tables of kuma-cp in PostgreSQL, beside whatever else is in the database. It may be run again at any time.
BEGIN;
SELECT pg_advisory_xact_lock(5681001);

-- Which tables these are: of which version, which programs may use them, and which store this is.
CREATE TABLE IF NOT EXISTS kuma_schema (
  one boolean PRIMARY KEY DEFAULT true CHECK (one),
  version integer NOT NULL,
  oldest_program integer NOT NULL,
  store uuid NOT NULL DEFAULT gen_random_uuid(),
  -- The oldest revision whose documents can still be told.
  floor bigint NOT NULL DEFAULT 0
);
INSERT INTO kuma_schema (version, oldest_program) VALUES (1, 1) ON CONFLICT DO NOTHING;

-- What was changed at once, by whom and why. Numbers have no holes from the floor on.
CREATE TABLE IF NOT EXISTS kuma_commits (
  revision bigint PRIMARY KEY CHECK (revision > 0),
  id uuid NOT NULL UNIQUE,
  at timestamptz NOT NULL,
  author text NOT NULL,
  via text NOT NULL,
  note text NOT NULL
);
CREATE INDEX IF NOT EXISTS kuma_commits_at ON kuma_commits (at, revision);

-- What became of each document. One that was deleted has no version. spec is JSON; old secrets lose theirs.
CREATE TABLE IF NOT EXISTS kuma_changes (
  revision bigint NOT NULL REFERENCES kuma_commits ON DELETE CASCADE,
  kind text COLLATE "C" NOT NULL,
  mesh text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  version bigint,
  created timestamptz,
  spec text,
  PRIMARY KEY (kind, mesh, name, revision)
);
CREATE INDEX IF NOT EXISTS kuma_changes_revision ON kuma_changes (revision);
CREATE INDEX IF NOT EXISTS kuma_changes_secrets ON kuma_changes (mesh, name, revision)
  WHERE kind = 'Secret' AND spec IS NOT NULL;

-- All documents as they are now: the sum of kuma_changes, for speed.
CREATE TABLE IF NOT EXISTS kuma_documents (
  kind text COLLATE "C" NOT NULL,
  mesh text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  revision bigint NOT NULL,
  version bigint NOT NULL,
  created timestamptz NOT NULL,
  modified timestamptz NOT NULL,
  spec text NOT NULL,
  PRIMARY KEY (kind, mesh, name)
);

-- What each control plane has reported of each proxy.
CREATE TABLE IF NOT EXISTS kuma_insights (
  mesh text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  instance text COLLATE "C" NOT NULL,
  modified timestamptz NOT NULL,
  spec text NOT NULL,
  PRIMARY KEY (mesh, name, instance)
) WITH (fillfactor = 60);

-- The control planes, and when each was last heard of.
CREATE TABLE IF NOT EXISTS kuma_instances (
  id text COLLATE "C" PRIMARY KEY,
  seen timestamptz NOT NULL,
  about text NOT NULL
) WITH (fillfactor = 60);

-- Who does what only one control plane should do, and until when.
CREATE TABLE IF NOT EXISTS kuma_leases (
  name text COLLATE "C" PRIMARY KEY,
  holder text NOT NULL,
  epoch bigint NOT NULL,
  until timestamptz NOT NULL
) WITH (fillfactor = 60);
COMMIT;
