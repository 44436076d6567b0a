//! Whether the tables of a Grantex auth service are only tables.
//!
//! Their owner need not be trusted with our rights. A view, a policy, a virtual column or the expression of
//! an index is code of its owner that runs as whoever reads the table, so we read plain tables only, of
//! exactly the types that our statements were written for.

use std::fmt::Write;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

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
    "has an index, statistics or a constraint of more than columns and built-ins",
];

/// What was seen of the tables.
pub(super) struct Look {
    /// The first fault of the first table that has one.
    pub(super) fault: Option<SchemaFault>,
    /// Changes with whatever is done to the tables, but not with what is done to their rows.
    pub(super) version: String,
}

/// What is asked, in a transaction of its own: built-ins are found whatever the path of the session is.
///
/// An index, statistics and a constraint may be made of columns, collations and built-ins, and of operator
/// classes, because only a superuser makes those. Whatever else they are made of stands in `pg_depend`: a
/// domain, say, calls the functions of its constraints. Should it not stand there, it stands in the
/// expression with its schema, which is written before nothing else there.
const LOOK: &str = r#"
    select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
    with parts as (
        select i.indrelid as relation, 'pg_catalog.pg_class'::regclass::oid as class, i.indexrelid as part,
            pg_catalog.concat(pg_catalog.pg_get_expr(i.indexprs, i.indrelid), ' ',
                pg_catalog.pg_get_expr(i.indpred, i.indrelid)) as expressions
        from pg_catalog.pg_index i
        union all
        select s.stxrelid, 'pg_catalog.pg_statistic_ext'::regclass::oid, s.oid,
            pg_catalog.pg_get_expr(s.stxexprs, s.stxrelid)
        from pg_catalog.pg_statistic_ext s
        union all
        select k.conrelid, 'pg_catalog.pg_constraint'::regclass::oid, k.oid,
            pg_catalog.pg_get_expr(k.conbin, k.conrelid)
        from pg_catalog.pg_constraint k where k.contype = 'c'),
    planted as (
        select p.relation from parts p
        where pg_catalog.regexp_replace(p.expressions,
            '"([^"]|"")*"|''([^'']|'''')*''', 'q', 'g') ~ '\.[[:alpha:]_]'
        union all
        select p.relation from parts p
        join pg_catalog.pg_depend d on d.classid = p.class and d.objid = p.part
        where not (d.refclassid = 'pg_catalog.pg_class'::regclass::oid and d.refobjid = p.relation)
          and d.refclassid not in (
            'pg_catalog.pg_namespace'::regclass::oid, 'pg_catalog.pg_collation'::regclass::oid,
            'pg_catalog.pg_opclass'::regclass::oid, 'pg_catalog.pg_constraint'::regclass::oid)),
    found as (
        select w.relation, w.place, c.oid, c.xmin, case
            when c.oid is null then 0
            when c.relkind <> 'r' then 1
            when c.relrowsecurity then 2
            when exists (select from pg_catalog.pg_inherits i where i.inhparent = c.oid) then 3
            when a.attnum is null then 4
            when t.typname is distinct from w.type
                or t.typnamespace <> 'pg_catalog'::regnamespace::oid then 5
            when a.attgenerated = 'v' then 6
            when c.oid in (select p.relation from planted p) then 7
            end as fault
        from wanted w
        left join pg_catalog.pg_namespace n on n.nspname = 'public'
        left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = w.relation
        left join pg_catalog.pg_attribute a
            on a.attrelid = c.oid and a.attname = w.attribute and a.attnum > 0 and not a.attisdropped
        left join pg_catalog.pg_type t on t.oid = a.atttypid)
    select worst.relation, worst.fault, (
            select pg_catalog.string_agg(
                distinct pg_catalog.concat(f.relation, ' ', f.oid, ' ', f.xmin), ', ') from found f) as version
    from (select) one
    left join (
        select f.relation, f.fault from found f
        where f.fault is not null order by f.fault, f.place limit 1) worst on true"#;

/// Looks at the tables. Nothing of them is read for it.
pub(super) async fn look(client: &Client) -> Query<Look> {
    let answers = client.simple_query(&statement()).await?;
    let rows = answers.into_iter().filter_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = rows.last().expect("a select from one row has one");
    Ok(Look {
        fault: fault(&row),
        version: row.get("version").unwrap_or_default().to_owned(),
    })
}

fn fault(row: &SimpleQueryRow) -> Option<SchemaFault> {
    let number: usize = row.get("fault")?.parse().unwrap_or_default();
    Some(SchemaFault::Authority {
        table: match row.get("relation")? {
            "developers" => "public.developers",
            "grants" => "public.grants",
            _ => "public.grant_tokens",
        },
        what: FAULTS.get(number).unwrap_or(&FAULTS[0]),
    })
}

/// [`LOOK`] with the columns: a message of several statements has no parameters.
fn statement() -> String {
    let mut wanted = String::new();
    for (place, (relation, attribute, kind)) in COLUMNS.into_iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        write!(
            wanted,
            "{comma}('{relation}', '{attribute}', '{kind}', {place})"
        )
        .expect("a string takes all");
    }
    let with =
        format!("with wanted (relation, attribute, type, place) as (values {wanted}), parts");
    LOOK.replacen("with parts", &with, 1)
}
