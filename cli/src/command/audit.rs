//! `portway audit`.

use std::io::{self, BufWriter, Write};

use portway::api::{Error, Exit};
use portway::audit::Format;
use portway::base::human;

use crate::args::{Audit, AuditCommand, AuditFormat};
use crate::out::event::Event;
use crate::setup::Context;

pub(super) fn run(context: &Context<'_>, args: &Audit) -> Result<Exit, Error> {
    let engine = context.engine(&context.config()?)?;
    match &args.command {
        AuditCommand::Verify => {
            let report = engine.audit_verify()?;
            let (log, root) = (report.log.to_string(), report.checkpoint.root.to_string());
            let (node, records) = (report.node.as_str(), report.records);
            context.out.event(&Event::AuditVerified { node, log: &log, records, root: &root });
            let count = human::count(records);
            context.out.report(&format!(
                "the audit log of {node} is whole: {count} records\n  log   {log}\n  root  {root}"
            ));
        }
        AuditCommand::Export { format, since } => {
            let format = match format {
                AuditFormat::Jsonl => Format::JsonLines,
                AuditFormat::Csv => Format::Csv,
            };
            let mut out = BufWriter::new(io::stdout().lock());
            engine.audit_export(format, *since, &mut out)?;
            out.flush().map_err(|error| {
                Error::new("output", Exit::Failed, format!("cannot write the export: {error}"))
            })?;
        }
    }
    Ok(Exit::Done)
}
