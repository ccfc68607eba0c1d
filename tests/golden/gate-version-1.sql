-- A database as the first version of the gate made it (sqlite3 .dump; also good for PostgreSQL).
CREATE TABLE carme_device (
    id VARCHAR(32) NOT NULL,
    username VARCHAR(64) NOT NULL,
    kind VARCHAR(16) NOT NULL,
    name VARCHAR(64) NOT NULL,
    secret TEXT NOT NULL,
    last_step BIGINT NOT NULL,
    created BIGINT NOT NULL,
    confirmed BIGINT NOT NULL,
    PRIMARY KEY (id)
);
CREATE TABLE carme_enrolment (
    username VARCHAR(64) NOT NULL,
    token_hash VARCHAR(64) NOT NULL,
    expires BIGINT NOT NULL,
    secret TEXT,
    ticket_hash VARCHAR(64),
    attempts INTEGER NOT NULL,
    PRIMARY KEY (username),
    UNIQUE (ticket_hash)
);
CREATE TABLE carme_schema (
    id INTEGER NOT NULL,
    version INTEGER NOT NULL,
    PRIMARY KEY (id)
);
CREATE INDEX ix_carme_device_username ON carme_device (username);
INSERT INTO carme_schema VALUES (1, 1);
INSERT INTO carme_enrolment VALUES ('carol', 'abababababababababababababababababababababababababababababababab', 4102444800, NULL, NULL, 0);
INSERT INTO carme_device VALUES ('a2', 'alice', 'totp', 'Tablet', '2ba094c6.c1VNtK6IITgSHZK8G2+KoafPPPcK93LrPfQ0T1b4ZkwZFMzGcP30H5vArRWwBAT/aa6/C6FKiBjcrmmv', 55, 200, 250);
INSERT INTO carme_device VALUES ('a1', 'alice', 'totp', 'Authenticator app', '2ba094c6.gTZ00kqVGR5Stm23yR6FtI1i9DmATQlQ5xLOrlcnD5mfX73wFIZnn22JFsDAGo6gmbw6/x9SQwSsup0U', 57, 100, 150);
INSERT INTO carme_device VALUES ('b1', 'bob', 'totp', 'Authenticator app', '2ba094c6.1mQux/hn8mzpQrZoY6rwpLGr2SewLi3+0DAEQ5mvcZK8tkZWW/hfh7q+E79ZFSU8qWoGbMi5v0jn36Gm', 0, 300, 300);
