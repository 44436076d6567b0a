//! Events for a person, or for a program.

use std::io::{self, Write};

use crate::{
    audit::canonical::{RecordedCaller, RecordedEvent},
    store::audit_order::WholeEvent,
};

/// Prints events as they come: aligned columns on a terminal, else their bytes, a line each.
pub(super) struct Printer<W> {
    to: W,
    columns: bool,
    begun: bool,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(to: W, columns: bool) -> Self {
        Self {
            to,
            columns,
            begun: false,
        }
    }

    pub(super) fn print(&mut self, event: &WholeEvent) -> io::Result<()> {
        let Ok(recorded) = RecordedEvent::parse(&event.canonical) else {
            let id = event.place.id.escape_debug();
            return if self.columns {
                writeln!(self.to, "{id}: not an event that the vault wrote")
            } else {
                // Its bytes could be taken for several lines.
                let line = serde_json::json!({"notAnEvent": event.place.id});
                writeln!(self.to, "{line}")
            };
        };
        if !self.columns {
            self.to.write_all(&event.canonical)?;
            return self.to.write_all(b"\n");
        }
        if !std::mem::replace(&mut self.begun, true) {
            let names = [
                "time",
                "outcome",
                "verb",
                "developer",
                "principal",
                "service",
                "caller",
            ];
            self.line(names.map(str::to_owned))?;
        }
        self.line(row(&recorded))
    }

    fn line(
        &mut self,
        [time, outcome, verb, developer, principal, service, caller]: [String; 7],
    ) -> io::Result<()> {
        writeln!(
            self.to,
            "{time:<24}  {outcome:<9}  {verb:<8}  {developer:<30}  {principal:<24}  {service:<16}  {caller}"
        )
    }
}

/// Whoever can write the table chooses these texts: nothing in them reaches a terminal.
fn row(event: &RecordedEvent<'_>) -> [String; 7] {
    let shown = |text: &str| text.escape_debug().to_string();
    let optional = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), shown);
    let outcome = match &event.reason {
        Some(reason) => format!("{}: {}", event.outcome, reason),
        None => event.outcome.to_string(),
    };
    let caller = match &event.caller {
        RecordedCaller::Developer { api_key_id } => {
            api_key_id.as_deref().unwrap_or("an API key").to_owned()
        }
        RecordedCaller::Agent(agent) => format!("{} with {}", agent.agent, agent.grant_id),
        RecordedCaller::Operator { operator } => format!("operator: {operator}"),
        RecordedCaller::Webhook { webhook_event_id } => format!("webhook: {webhook_event_id}"),
    };
    [
        shown(&event.occurred_at),
        shown(&outcome),
        shown(&event.verb),
        shown(&event.developer_id),
        optional(event.principal_id.as_deref()),
        optional(event.service.as_deref()),
        shown(&caller),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::audit_order::Place;

    fn event(canonical: &[u8]) -> WholeEvent {
        WholeEvent {
            place: Place {
                id: "01\x1b[2J".to_owned(),
                ..Place::default()
            },
            principal_id: None,
            service_key: None,
            credential_id: None,
            grant_id: None,
            outcome: "denied".to_owned(),
            canonical: canonical.to_vec(),
        }
    }

    const CANONICAL: &str = r#"{"version":1,"developerId":"acme","id":"01","occurredAt":"t","verb":"exchange","outcome":"denied","reason":"out_of_scope","principalId":"eve\u001b[2J","service":null,"credentialId":null,"caller":{"agent":"did:a","issuer":"i","clientId":null,"grantId":"g","tokenId":"t","parentAgent":null,"parentGrantId":null,"delegationDepth":null,"delegation":[]},"requestId":"r","traceId":null,"peer":"p","transport":"rest"}"#;

    fn printed(columns: bool, events: &[WholeEvent]) -> String {
        let mut printer = Printer::new(Vec::new(), columns);
        for event in events {
            printer.print(event).unwrap();
        }
        String::from_utf8(printer.to).unwrap()
    }

    #[test]
    fn a_program_gets_the_bytes_and_a_person_columns_without_control_characters() {
        let events = [event(CANONICAL.as_bytes()), event(b"{}")];
        let lines = format!("{CANONICAL}\n{{\"notAnEvent\":\"01\\u001b[2J\"}}\n");
        assert_eq!(printed(false, &events), lines);
        let table = printed(true, &events);
        assert!(!table.contains('\x1b'), "{table}");
        let lines: Vec<_> = table.lines().collect();
        assert!(lines[0].starts_with("time "), "{table}");
        for part in [
            "denied: out_of_scope",
            "acme",
            "eve\\u{1b}[2J",
            "did:a with g",
        ] {
            assert!(lines[1].contains(part), "{table}");
        }
        assert_eq!(lines[2], "01\\u{1b}[2J: not an event that the vault wrote");
    }
}
