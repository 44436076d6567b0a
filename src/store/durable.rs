//! Commits that are durable, whatever the server was told meanwhile.
//!
//! A session has its setting from when it began until somebody changes it: a reload of the server's
//! configuration does, and behind a pooler the next statement may have another session. So each
//! transaction that writes says for itself that its commit waits until it is on disk, and on the
//! synchronous standbys if there are any.

/// A condition that always holds. Until its transaction ends, `synchronous_commit` is `on` then, or
/// `remote_apply` if it was that, and the server says so when the commit did not wait for what it should
/// have waited for: a role's `client_min_messages` could keep it from saying (`connect.rs` listens).
macro_rules! durably {
    () => {
        "((select pg_catalog.set_config('synchronous_commit',
            case pg_catalog.current_setting('synchronous_commit')
                when 'remote_apply' then 'remote_apply' else 'on' end,
            true)) is not null
          and (select pg_catalog.set_config('client_min_messages', 'warning', true)) is not null)"
    };
}
pub(super) use durably;

/// A condition that always holds. The commit of its transaction waits for the synchronous standbys then,
/// whether it writes anything else or not: what was committed before is there too when it has answered.
/// Who finds that an earlier transaction committed knows only that it did so here.
macro_rules! waits_for_standbys {
    () => {
        "(select pg_catalog.pg_logical_emit_message(true, 'grantex-vault'::text, ''::text)) is not null"
    };
}
pub(super) use waits_for_standbys;

/// The same as [`durably`] as a statement: the first of a transaction.
pub const DURABLY: &str = concat!("select ", durably!());
