-- A session is known by a number of ours, so that one whose transcript was forgotten can begin anew at once, while the
-- old entries are still being removed. appended_at: microseconds since 1970, when something new was stored last.
CREATE TABLE transcript_sessions (
  id BIGINT PRIMARY KEY,
  uid TEXT NOT NULL UNIQUE,
  namespace TEXT NOT NULL,
  name TEXT NOT NULL,
  appended_at BIGINT NOT NULL
);
CREATE INDEX transcript_sessions_by_age ON transcript_sessions (appended_at);

-- Of each journal of a session, all entries through this number are stored.
CREATE TABLE transcript_journals (
  session BIGINT NOT NULL REFERENCES transcript_sessions (id) ON DELETE CASCADE,
  journal BIGINT NOT NULL,
  through BIGINT NOT NULL,
  PRIMARY KEY (session, journal)
);

-- happened_at: RFC 3339. size: bytes of the body, which comes last so that the rest is read without it.
CREATE TABLE transcript_entries (
  session BIGINT NOT NULL,
  journal BIGINT NOT NULL,
  seq BIGINT NOT NULL,
  turn TEXT NOT NULL,
  kind TEXT NOT NULL,
  happened_at TEXT NOT NULL,
  size BIGINT NOT NULL,
  body TEXT NOT NULL,
  PRIMARY KEY (session, journal, seq)
);
CREATE INDEX transcript_entries_by_turn ON transcript_entries (session, turn);

-- Sessions that are gone, whose entries are still to be removed.
CREATE TABLE transcript_forgotten (
  session BIGINT PRIMARY KEY
);
