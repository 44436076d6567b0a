//! Whether tables of somebody else are only tables.
//!
//! Their owner need not be trusted with our rights. A view, a policy, a virtual column or the expression of
//! an index is code of its owner that runs as whoever reads the table, so we read plain tables only, of
//! columns of built-in types.

use std::fmt::Write;

use tokio_postgres::{Client, SimpleQueryMessage, SimpleQueryRow};

use super::Query;

/// What is read of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Column {
    /// Of the schema `public`, and with it.
    pub(super) table: &'static str,
    pub(super) name: &'static str,
    /// Its type; any built-in one when there is none.
    pub(super) kind: Option<&'static str>,
}

/// What is wrong with a table that is not there.
pub(super) const NOT_THERE: &str = "is not there";

/// What can be wrong with a table, in the order in which it is looked for.
const FAULTS: [&str; 8] = [
    NOT_THERE,
    "is not a plain table",
    "has row-level security",
    "has tables that inherit from it",
    "lacks a column",
    "has a column of another type",
    "has a virtual generated column",
    "has an index, statistics or a constraint of more than columns and built-ins",
];

/// A table that is not to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct TableFault {
    /// Which, with its schema.
    pub(super) table: &'static str,
    /// What is wrong with it.
    pub(super) what: &'static str,
}

/// What was seen of the tables.
pub(super) struct Look {
    /// The first fault of the first table that has one.
    pub(super) fault: Option<TableFault>,
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
            when t.typname <> w.type
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
    select worst.place, worst.fault, (
            select pg_catalog.string_agg(
                distinct pg_catalog.concat(f.relation, ' ', f.oid, ' ', f.xmin), ', ') from found f) as version
    from (select) one
    left join (
        select f.place, f.fault from found f
        where f.fault is not null order by f.fault, f.place limit 1) worst on true"#;

/// Looks at the tables of these columns. Nothing of them is read for it.
pub(super) async fn look(client: &Client, columns: &[Column]) -> Query<Look> {
    let answers = client.simple_query(&statement(columns)).await?;
    let rows = answers.into_iter().filter_map(|answer| match answer {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = rows.last().expect("a select from one row has one");
    Ok(Look {
        fault: fault(&row, columns),
        version: row.get("version").unwrap_or_default().to_owned(),
    })
}

fn fault(row: &SimpleQueryRow, columns: &[Column]) -> Option<TableFault> {
    let number: usize = row.get("fault")?.parse().unwrap_or_default();
    let place: usize = row.get("place")?.parse().unwrap_or_default();
    Some(TableFault {
        table: columns.get(place).or(columns.first())?.table,
        what: FAULTS.get(number).unwrap_or(&NOT_THERE),
    })
}

/// [`LOOK`] with the columns: a message of several statements has no parameters.
fn statement(columns: &[Column]) -> String {
    let mut wanted = String::new();
    for (place, Column { table, name, kind }) in columns.iter().enumerate() {
        let comma = if place == 0 { "" } else { ", " };
        let relation = table.trim_start_matches("public.");
        let kind = kind.map_or_else(|| "null::text".to_owned(), |kind| format!("'{kind}'::text"));
        write!(wanted, "{comma}('{relation}', '{name}', {kind}, {place})")
            .expect("a string takes all");
    }
    let with =
        format!("with wanted (relation, attribute, type, place) as (values {wanted}), parts");
    LOOK.replacen("with parts", &with, 1)
}
