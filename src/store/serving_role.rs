//! The role that a server connects as: it is granted what serving needs, and nothing more.

use std::{fmt::Write, str::FromStr};

use tokio_postgres::types::ToSql;

use super::{
    Query,
    database_url::DatabaseUrl,
    schema::{self, SchemaFault},
    session,
};

/// What serving does with each table. Audit events are added and never changed. Developers, keys and
/// revocations are what operators change on their listener, webhooks revoke, and what expired is
/// forgotten.
const NEEDED: [(&str, &str); 12] = [
    ("schema_version", "select"),
    ("developers", "select, insert, delete"),
    ("api_keys", "select, insert, update, delete"),
    ("credentials", "select, insert, update, delete"),
    ("revocations", "select, insert, update, delete"),
    ("webhook_secrets", "select, delete"),
    ("audit_events", "select"),
    ("audit_eras", "select"),
    ("audit_seals", "select, insert"),
    ("audit_sealer", "select, update"),
    ("audit_signing_key", "select, insert"),
    ("master_keys", "select"),
];

/// What serving says of an event. Where it stands in the order of commits is for the defaults to say.
const EVENT_COLUMNS: &str = "developer_id, id, principal_id, service_key, credential_id, grant_id, \
                             outcome, canonical, hash";

/// Where serving locks rows.
const LOCKED: [&str; 2] = ["developers", "webhook_secrets"];

/// What serving calls that acts with the rights of the schema's owner.
const CALLED: [&str; 2] = ["make_audit_partitions(text)", "begin_audit_era()"];

/// Any number that is the same for every replica.
const ROLE_LOCK: i64 = 0x6772_616e_7465_7801;

/// The longest name that Postgres does not cut off.
const MAX_BYTES: usize = 63;

/// The name of a role that exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleName(String);

impl FromStr for RoleName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=MAX_BYTES).contains(&text.len()) && !text.contains('\0');
        fits.then(|| Self(text.to_owned()))
            .ok_or("a role's name has 1 to 63 bytes")
    }
}

impl RoleName {
    /// As an identifier in a statement.
    fn quoted(&self) -> String {
        format!("\"{}\"", self.0.replace('"', "\"\""))
    }
}

/// Takes from the role whatever it was granted in our schema, and grants it what serving needs.
pub(super) async fn grant(
    client: &tokio_postgres::Client,
    role: &RoleName,
) -> Result<(), SchemaFault> {
    if owns_the_schema(client, role).await? {
        let why = format!("{} owns the schema: serve as another role", role.0);
        return Err(SchemaFault::Migration(why.into()));
    }
    let done: Query<()> = client.batch_execute(&statements(role)).await;
    done.map_err(|error| SchemaFault::Migration(error.into()))
}

/// What serving needs and the role of this connection may not. One statement: it is asked all the time.
pub(super) async fn missing(client: &tokio_postgres::Client) -> Query<Vec<String>> {
    // serving_role::missing
    const SQL: &str = "
        select privilege || ' vault.' || name from (
            select pg_catalog.unnest($1::text[]) as name, pg_catalog.unnest($2::text[]) as privilege) tables
        where not pg_catalog.has_table_privilege('vault.' || name, privilege)
        union all
        select 'insert vault.audit_events' where not (
            select pg_catalog.bool_and(
                pg_catalog.has_column_privilege('vault.audit_events'::text, name, 'insert'::text))
            from pg_catalog.unnest($3::text[]) as name)
        union all
        select 'lock vault.' || name from pg_catalog.unnest($5::text[]) as name
        where not pg_catalog.has_column_privilege('vault.' || name, 'id'::text, 'update'::text)
        union all
        select 'execute vault.' || name from pg_catalog.unnest($4::text[]) as name
        where not pg_catalog.has_function_privilege('vault.' || name, 'execute'::text)";
    let needed = NEEDED.iter().flat_map(|(table, privileges)| {
        let privileges = privileges.split(", ");
        privileges.map(move |privilege| (*table, privilege))
    });
    let (tables, privileges): (Vec<&str>, Vec<&str>) = needed.unzip();
    let columns: Vec<&str> = EVENT_COLUMNS.split(", ").collect();
    let parameters: [&(dyn ToSql + Sync); 5] =
        [&tables, &privileges, &columns, &&CALLED[..], &&LOCKED[..]];
    let rows = client.query(SQL, &parameters).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// What the role of this connection may do to the record and must not: own it, or change or remove what is
/// in it, by a partition too. It may whatever a role may that it is a member of: it can become that one.
pub(super) async fn record_changes(
    client: &tokio_postgres::Client,
) -> Result<Vec<String>, SchemaFault> {
    // serving_role::record_changes
    const SQL: &str = "
        with it as (
            select oid, rolname::text as name, rolsuper, rolcreaterole from pg_catalog.pg_roles
            where pg_catalog.pg_has_role(oid, 'member'))
        select 'own the schema vault' from pg_catalog.pg_namespace
            where nspname = 'vault' and pg_catalog.pg_has_role(nspowner, 'member')
        union all
        select 'be the superuser ' || name from it where rolsuper
        union all
        select 'change files of the server (' || name || ')' from it
            where name in ('pg_write_server_files', 'pg_execute_server_program')
        union all
        select 'make itself a member of any role (CREATEROLE)' from it
            where rolcreaterole and not rolsuper
              and pg_catalog.current_setting('server_version_num')::int < 160000
        union all
        select distinct privilege || ' vault.' || root.relname::text
        from it
        cross join pg_catalog.pg_class part
        join pg_catalog.pg_class root on root.oid = coalesce(pg_catalog.pg_partition_root(part.oid), part.oid)
        cross join pg_catalog.unnest(array['update', 'delete', 'truncate', 'trigger']) as privilege
        where root.oid in ('vault.audit_events'::regclass::oid, 'vault.audit_seals'::regclass::oid)
            and part.relkind in ('r', 'p')
            and (pg_catalog.has_table_privilege(it.oid, part.oid, privilege)
                or (privilege = 'update'
                    and pg_catalog.has_any_column_privilege(it.oid, part.oid, 'update')))
        order by 1";
    let rows = schema::timed(client.query(SQL, &[])).await?;
    Ok(rows.iter().map(|row| row.get(0)).collect())
}

/// Has every session of the role of this URL in this database begin with our search path, those behind a
/// pooler too. Not of a role that owns the schema: another application may have it too. Answers whether
/// the role has it.
///
/// # Errors
///
/// When there is no answer, or Postgres refuses it.
pub async fn set_search_path(url: &DatabaseUrl) -> Result<bool, SchemaFault> {
    // serving_role::set_search_path
    const SQL: &str = "
        select pg_catalog.pg_has_role(n.nspowner, 'member') as owns, exists (
                select from pg_catalog.pg_db_role_setting s
                join pg_catalog.pg_roles r on r.oid = s.setrole
                join pg_catalog.pg_database d on d.oid = s.setdatabase
                where r.rolname = current_user and d.datname = pg_catalog.current_database()
                  and 'search_path=' || $1::text = any (s.setconfig)) as has
        from pg_catalog.pg_namespace n where n.nspname = 'vault'";
    let client = schema::connect(url).await?;
    let row = schema::timed(client.query_one(SQL, &[&session::SEARCH_PATH])).await?;
    if row.get("owns") || row.get("has") {
        return Ok(row.get("has"));
    }
    // One replica at a time: of two that change it at once Postgres refuses one.
    let set = format!(
        "do $$ begin
            perform pg_catalog.pg_advisory_xact_lock({ROLE_LOCK}::bigint);
            execute pg_catalog.format(
                'alter role current_user in database %I set search_path = {}',
                pg_catalog.current_database());
        end $$",
        session::SEARCH_PATH
    );
    schema::timed(client.batch_execute(&set)).await?;
    Ok(true)
}

/// Whoever owns the schema has what it needs, and would take it from itself.
async fn owns_the_schema(
    client: &tokio_postgres::Client,
    role: &RoleName,
) -> Result<bool, SchemaFault> {
    // serving_role::owns_the_schema
    const SQL: &str = "
        select exists (
            select from pg_catalog.pg_namespace
            where nspname = 'vault' and (nspowner = r.oid or current_user = r.rolname))
        from pg_catalog.pg_roles r where r.rolname = $1::text";
    let row = schema::timed(client.query_opt(SQL, &[&role.0])).await?;
    Ok(row.is_some_and(|row| row.get(0)))
}

fn statements(role: &RoleName) -> String {
    // serving_role::grant
    let role = role.quoted();
    let mut statements = format!(
        "begin;
         revoke all on all tables in schema vault from {role};
         revoke all on all functions in schema vault from {role};
         revoke all on schema vault from {role};
         grant usage on schema vault to {role};"
    );
    for (table, privileges) in NEEDED {
        let grant = write!(statements, "grant {privileges} on vault.{table} to {role};");
        grant.expect("a string takes all");
    }
    let append = write!(
        statements,
        "grant insert ({EVENT_COLUMNS}) on vault.audit_events to {role};"
    );
    append.expect("a string takes all");
    // Of these nothing is updated. Who locks a row, so that it is not deleted meanwhile, needs the privilege
    // on a column.
    for table in LOCKED {
        let lock = write!(statements, "grant update (id) on vault.{table} to {role};");
        lock.expect("a string takes all");
    }
    for function in CALLED {
        let grant = write!(
            statements,
            "grant execute on function vault.{function} to {role};"
        );
        grant.expect("a string takes all");
    }
    statements.push_str("commit");
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_quoted_whatever_it_holds() {
        let role: RoleName = "vault \"app\"; drop table x".parse().unwrap();
        assert_eq!(role.quoted(), "\"vault \"\"app\"\"; drop table x\"");
        for wrong in ["", "a\0b", &"x".repeat(64)] {
            assert!(wrong.parse::<RoleName>().is_err(), "{wrong}");
        }
    }
}
