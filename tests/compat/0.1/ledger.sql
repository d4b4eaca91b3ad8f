BEGIN TRANSACTION;
CREATE TABLE accounts (
	id INTEGER NOT NULL, 
	app VARCHAR(63) NOT NULL, 
	labels VARCHAR(1024) NOT NULL, 
	transport VARCHAR(3) NOT NULL, 
	host VARCHAR(253) NOT NULL, 
	port INTEGER NOT NULL, 
	address VARCHAR(64) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (app, labels, transport, host, port, address)
);
INSERT INTO "accounts" VALUES(1,'blog','','tcp','',45421,'127.0.0.1');
CREATE TABLE baselines (
	gate INTEGER NOT NULL, 
	id BIGINT NOT NULL, 
	dial INTEGER NOT NULL, 
	sent BIGINT NOT NULL, 
	received BIGINT NOT NULL, 
	wire_sent BIGINT NOT NULL, 
	wire_received BIGINT NOT NULL, 
	PRIMARY KEY (gate, id, dial)
);
INSERT INTO "baselines" VALUES(1,50096109463566,1,1000,1000,0,0);
CREATE TABLE days (
	start BIGINT NOT NULL, 
	account INTEGER NOT NULL, 
	sent BIGINT NOT NULL, 
	received BIGINT NOT NULL, 
	wire_sent BIGINT NOT NULL, 
	wire_received BIGINT NOT NULL, 
	PRIMARY KEY (start, account)
)
 WITHOUT ROWID

;
CREATE TABLE drafts (
	gate INTEGER NOT NULL, 
	start BIGINT NOT NULL, 
	account INTEGER NOT NULL, 
	sent BIGINT NOT NULL, 
	received BIGINT NOT NULL, 
	wire_sent BIGINT NOT NULL, 
	wire_received BIGINT NOT NULL, 
	PRIMARY KEY (gate, start, account)
)
 WITHOUT ROWID

;
INSERT INTO "drafts" VALUES(1,1795443300,1,1006,1006,318,214);
CREATE TABLE gaps (
	id INTEGER NOT NULL, 
	gate INTEGER NOT NULL, 
	since DOUBLE NOT NULL, 
	until DOUBLE NOT NULL, 
	how VARCHAR(32) NOT NULL, 
	sockets INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
CREATE TABLE gates (
	id INTEGER NOT NULL, 
	name VARCHAR(255) NOT NULL, 
	sealed BIGINT NOT NULL, 
	sealings BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (name)
);
INSERT INTO "gates" VALUES(1,'recorded',1795443300,0);
CREATE TABLE hours (
	start BIGINT NOT NULL, 
	account INTEGER NOT NULL, 
	sent BIGINT NOT NULL, 
	received BIGINT NOT NULL, 
	wire_sent BIGINT NOT NULL, 
	wire_received BIGINT NOT NULL, 
	PRIMARY KEY (start, account)
)
 WITHOUT ROWID

;
CREATE TABLE meta (
	"key" VARCHAR(32) NOT NULL, 
	value VARCHAR(200) NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('version','1');
CREATE TABLE runs (
	id INTEGER NOT NULL, 
	gate INTEGER NOT NULL, 
	name VARCHAR(64) NOT NULL, 
	began DOUBLE NOT NULL, 
	seen DOUBLE NOT NULL, 
	ended DOUBLE, 
	how VARCHAR(32), 
	batch BIGINT NOT NULL, 
	closed TEXT NOT NULL, 
	sent BIGINT NOT NULL, 
	received BIGINT NOT NULL, 
	wire_sent BIGINT NOT NULL, 
	wire_received BIGINT NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (gate, name)
);
INSERT INTO "runs" VALUES(1,1,'b4004bba7cdd9896',1.7954438830340385437e+09,1795443889.25027,NULL,NULL,1,'50096109463560.1',1006,1006,318,214);
CREATE TABLE sealings (
	gate INTEGER NOT NULL, 
	number BIGINT NOT NULL, 
	"before" BIGINT NOT NULL, 
	at DOUBLE NOT NULL, 
	run INTEGER NOT NULL, 
	windows BIGINT NOT NULL, 
	sent BIGINT NOT NULL, 
	received BIGINT NOT NULL, 
	wire_sent BIGINT NOT NULL, 
	wire_received BIGINT NOT NULL, 
	PRIMARY KEY (gate, number)
);
CREATE TABLE windows (
	start BIGINT NOT NULL, 
	account INTEGER NOT NULL, 
	gate INTEGER NOT NULL, 
	sealing BIGINT NOT NULL, 
	complete BOOLEAN NOT NULL, 
	sent BIGINT NOT NULL, 
	received BIGINT NOT NULL, 
	wire_sent BIGINT NOT NULL, 
	wire_received BIGINT NOT NULL, 
	PRIMARY KEY (start, account, gate)
)
 WITHOUT ROWID

;
CREATE INDEX windows_by_sealing ON windows (gate, sealing);
CREATE TRIGGER windows_no_update BEFORE UPDATE ON windows BEGIN SELECT RAISE(ABORT, 'windows is append-only'); END;
CREATE TRIGGER windows_no_delete BEFORE DELETE ON windows BEGIN SELECT RAISE(ABORT, 'windows is append-only'); END;
CREATE TRIGGER sealings_no_update BEFORE UPDATE ON sealings BEGIN SELECT RAISE(ABORT, 'sealings is append-only'); END;
CREATE TRIGGER sealings_no_delete BEFORE DELETE ON sealings BEGIN SELECT RAISE(ABORT, 'sealings is append-only'); END;
COMMIT;
PRAGMA user_version = 0;
