//! `grantex-vault doctor`

use super::Outcome;
use super::output::outln;
use crate::doctor::{self, Finding, Verdict};

/// Prints what was found; fails when something is wrong.
pub(super) async fn run(lookup: &dyn Fn(&str) -> Option<String>) -> Outcome {
    let findings = doctor::examine(lookup).await;
    findings.iter().for_each(print);
    let count = |verdict| findings.iter().filter(|one| one.verdict == verdict).count();
    let (wrong, doubtful) = (count(Verdict::Wrong), count(Verdict::Doubtful));
    if wrong > 0 {
        return Err(format!("{wrong} to fix, {doubtful} to look at").into());
    }
    outln!("nothing to fix, {doubtful} to look at");
    Ok(())
}

fn print(finding: &Finding) {
    let Finding {
        subject,
        verdict,
        says,
        fix,
    } = finding;
    outln!("{:<4}  {subject}: {says}", verdict.as_str());
    if let Some(fix) = fix {
        outln!("      → {fix}");
    }
}
