-- Makes the portal's database and its two users, once, as a superuser:
--
--     sudo -u postgres psql -v ON_ERROR_STOP=1 -f roles.sql
--
-- `portal_owner` owns the tables and migrates them (`flask db upgrade`); `portal` reads and writes rows and can do nothing
-- else. Their passwords are taken out of the two files that the portal reads its addresses from, each one line:
--
--     database_url          postgresql://portal:PASSWORD@HOST/portal
--     database_owner_url    postgresql://portal_owner:PASSWORD@HOST/portal
--
-- in /run/secrets (compose.yaml puts them there), or in the folder that PORTAL_SECRETS names. A password there must need
-- no percent-encoding: `openssl rand -hex 24` makes such ones.

\set ON_ERROR_STOP on
\set password `sed -n 's|^[a-z+]*://portal:\([^:@/]*\)@.*|\1|p' "${PORTAL_SECRETS:-/run/secrets}/database_url"`
\set owner_password `sed -n 's|^[a-z+]*://portal_owner:\([^:@/]*\)@.*|\1|p' "${PORTAL_SECRETS:-/run/secrets}/database_owner_url"`

-- An unreadable file gave no password: then nothing is made.
SELECT :'password' = '' OR :'owner_password' = '' AS incomplete \gset
\if :incomplete
    \warn 'database_url and database_owner_url must hold the addresses of portal and portal_owner, with their passwords'
    SELECT 1 / 0;
\endif

CREATE ROLE portal_owner LOGIN PASSWORD :'owner_password';
CREATE ROLE portal LOGIN PASSWORD :'password';
CREATE DATABASE portal OWNER portal_owner ENCODING 'UTF8' TEMPLATE template0;
REVOKE ALL ON DATABASE portal FROM PUBLIC;
GRANT CONNECT ON DATABASE portal TO portal;

\connect portal
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT ALL ON SCHEMA public TO portal_owner;
GRANT USAGE ON SCHEMA public TO portal;
-- Whatever portal_owner makes from now on, a later version's tables too.
ALTER DEFAULT PRIVILEGES FOR ROLE portal_owner IN SCHEMA public GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO portal;
ALTER DEFAULT PRIVILEGES FOR ROLE portal_owner IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO portal;
