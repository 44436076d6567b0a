//! The command `grantex-vault`.

fn main() {}
