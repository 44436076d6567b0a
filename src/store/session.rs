//! What a session of ours begins with, before anything else is asked on it.
//!
//! Whoever may create functions or operators in a schema of the search path can have others run them: a
//! call that no built-in fits exactly goes to the best fit on the path. So the path has built-ins only, and
//! every table of ours is named with its schema. A session behind a transaction pooler is another one with
//! the next transaction; so the role that serves has the same path by itself (`serving_role.rs`), and in
//! our statements built-ins are named with their schema and get arguments of exactly their types.

/// Built-ins, and temporary tables last: they are of this session only, and would come first otherwise.
pub(super) const SEARCH_PATH: &str = "pg_catalog, pg_temp";

/// The statements. `synchronous_commit` and what the server warns of are `durable.rs`' affair, for as long as
/// the session is ours.
pub(super) const BEGIN: &str = "
    select pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false);
    select pg_catalog.set_config('client_min_messages', 'warning', false);
    select pg_catalog.set_config('synchronous_commit',
        case pg_catalog.current_setting('synchronous_commit')
            when 'remote_apply' then 'remote_apply' else 'on' end,
        false)";
