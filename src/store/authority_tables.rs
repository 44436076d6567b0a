//! Whether the tables of a Grantex auth service are only tables.
//!
//! Their owner need not be trusted with our rights. A view, a policy, a virtual column or the expression of
//! an index is code of its owner that runs as whoever reads the table, so we read plain tables only, of
//! exactly the types that our statements were written for.

use tokio_postgres::{Client, types::ToSql};

use super::{Query, schema::SchemaFault};

/// What is read, and the types that it must have.
const COLUMNS: [(&str, &str, &str); 11] = [
    ("developers", "id", "text"),
    ("developers", "api_key_hash", "text"),
    ("grants", "id", "text"),
    ("grants", "principal_id", "text"),
    ("grants", "developer_id", "text"),
    ("grants", "status", "text"),
    ("grants", "expires_at", "timestamptz"),
    ("grant_tokens", "jti", "text"),
    ("grant_tokens", "grant_id", "text"),
    ("grant_tokens", "is_revoked", "bool"),
    ("grant_tokens", "expires_at", "timestamptz"),
];

/// What can be wrong with a table, in the order in which it is looked for.
const FAULTS: [&str; 8] = [
    "is not there",
    "is not a plain table",
    "has row-level security",
    "has tables that inherit from it",
    "lacks a column",
    "has a column of another type",
    "has a virtual generated column",
    "has an index, statistics or a constraint that call a function or an operator",
];

/// What is asked: the first fault of the first table that has one, by its place in [`FAULTS`].
///
/// Only what is not built in is recorded as something that an index depends on. What it calls with constants
/// is called when a statement is planned, by whoever plans it.
const SQL: &str = "
    with wanted as (
        select pg_catalog.unnest($1::text[]) as relation, pg_catalog.unnest($2::text[]) as attribute,
            pg_catalog.unnest($3::text[]) as type,
            pg_catalog.generate_subscripts($1::text[], 1) as place),
    found as (
        select w.relation, w.place, case
            when c.oid is null then 0
            when c.relkind <> 'r' then 1
            when c.relrowsecurity then 2
            when exists (select from pg_catalog.pg_inherits i where i.inhparent = c.oid) then 3
            when a.attnum is null then 4
            when t.typname is distinct from w.type
                or t.typnamespace <> 'pg_catalog'::regnamespace::oid then 5
            when a.attgenerated = 'v' then 6
            when exists (
                select from pg_catalog.pg_depend d
                where d.refclassid in (
                        'pg_catalog.pg_proc'::regclass::oid, 'pg_catalog.pg_operator'::regclass::oid)
                  and (d.classid = 'pg_catalog.pg_class'::regclass::oid and d.objid in (
                        select i.indexrelid from pg_catalog.pg_index i where i.indrelid = c.oid)
                    or d.classid = 'pg_catalog.pg_statistic_ext'::regclass::oid and d.objid in (
                        select s.oid from pg_catalog.pg_statistic_ext s where s.stxrelid = c.oid)
                    or d.classid = 'pg_catalog.pg_constraint'::regclass::oid and d.objid in (
                        select k.oid from pg_catalog.pg_constraint k where k.conrelid = c.oid and k.contype = 'c'))) then 7
            end as fault
        from wanted w
        left join pg_catalog.pg_namespace n on n.nspname = 'public'
        left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.relation
        left join pg_catalog.pg_attribute a
            on a.attrelid = c.oid and a.attname = w.attribute and a.attnum > 0 and not a.attisdropped
        left join pg_catalog.pg_type t on t.oid = a.atttypid)
    select relation, fault from found where fault is not null order by fault, place limit 1";

/// What is wrong with the tables, if anything is. Nothing of them is read for it.
pub(super) async fn fault(client: &Client) -> Query<Option<SchemaFault>> {
    let [mut relations, mut attributes, mut types] = [const { Vec::new() }; 3];
    for (relation, attribute, kind) in COLUMNS {
        relations.push(relation);
        attributes.push(attribute);
        types.push(kind);
    }
    let parameters: [&(dyn ToSql + Sync); 3] = [&relations, &attributes, &types];
    let row = client.query_opt(SQL, &parameters).await?;
    Ok(row.map(|row| {
        let (relation, fault): (&str, i32) = (row.get(0), row.get(1));
        SchemaFault::Authority {
            table: match relation {
                "developers" => "public.developers",
                "grants" => "public.grants",
                _ => "public.grant_tokens",
            },
            what: usize::try_from(fault).map_or(FAULTS[0], |fault| FAULTS[fault]),
        }
    }))
}
