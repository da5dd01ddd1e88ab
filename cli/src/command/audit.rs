//! `portway audit`.

use std::io::{self, BufWriter, Write};

use portway::api::{AuditFilter, Error, Exit, NodeAddress, PeerReport};
use portway::audit::{Format, Report};
use portway::base::human;

use crate::args::{Audit, AuditCommand, AuditFormat, AuditWhich};
use crate::out::event::Event;
use crate::out::text;
use crate::setup::Context;

pub(super) async fn run(context: &Context<'_>, args: Audit) -> Result<Exit, Error> {
    let engine = context.engine(&context.config()?)?;
    match args.command {
        AuditCommand::Verify { peer: None } => whole(context, &engine.audit_verify()?),
        AuditCommand::Verify { peer: Some(node) } => {
            let report = engine.audit_verify_with(&NodeAddress::Name(node)).await?;
            return Ok(compared(context, &report));
        }
        AuditCommand::Show { which } if context.out.json() => {
            // The cells are those of an export, in its order.
            engine.audit_show(&filter(which), &mut |row| {
                let cells = row.to_json();
                context.out.raw(&format!("{{\"event\":\"audit_record\",{}", &cells[1..]));
            })?;
        }
        AuditCommand::Show { which } => {
            let shown = engine.audit_show(&filter(which), &mut |row| {
                context.out.raw(&text::audit_line(row));
            })?;
            if shown == 0 {
                context.out.note("no record is about that");
            }
        }
        AuditCommand::Export { format, which } => {
            let format = match format {
                AuditFormat::Jsonl => Format::JsonLines,
                AuditFormat::Csv => Format::Csv,
            };
            let mut out = BufWriter::new(io::stdout().lock());
            engine.audit_export(format, &filter(which), &mut out)?;
            out.flush().map_err(|error| {
                Error::new("output", Exit::Failed, format!("cannot write the export: {error}"))
                    .hint("check where the output goes")
            })?;
        }
    }
    Ok(Exit::Done)
}

fn filter(which: AuditWhich) -> AuditFilter {
    let AuditWhich { peer, since, transfer } = which;
    AuditFilter { peer, since, transfer }
}

fn whole(context: &Context<'_>, report: &Report) {
    let (log, root) = (report.log.to_string(), report.checkpoint.root.to_string());
    let (node, records) = (report.node.as_str(), report.records);
    context.out.event(&Event::AuditVerified { node, log: &log, records, root: &root });
    let count = human::count(records);
    context.out.report(&format!(
        "the audit log of {node} is whole: {count} records\n  log   {log}\n  root  {root}"
    ));
}

/// Tells what a comparison found; differences are no error of the program, and the status says so.
fn compared(context: &Context<'_>, report: &PeerReport) -> Exit {
    let out = context.out;
    if let Some(own) = &report.own {
        whole(context, own);
    }
    let (found, peer) = (&report.reconciled, report.peer.to_string());
    for remark in &found.remarks {
        let (transfer, message) = (remark.transfer().to_string(), remark.to_string());
        out.event(&Event::AuditRemark { transfer: &transfer, message: &message });
        out.text(&format!("remark: {message}"));
    }
    for difference in &found.differences {
        let (transfer, message) = (difference.transfer().to_string(), difference.to_string());
        out.event(&Event::AuditDifference { transfer: &transfer, message: &message });
        out.text(&format!("difference: {message}"));
    }
    let theirs = report.theirs.as_ref();
    let log = theirs.map(|theirs| theirs.log.to_string());
    out.event(&Event::AuditReconciled {
        peer: &peer,
        log: log.as_deref(),
        records: theirs.map_or(0, |theirs| theirs.records),
        told: theirs.map_or(0, |theirs| theirs.told),
        held: theirs.and_then(|theirs| theirs.held),
        held_there: report.own.as_ref().map_or(0, |own| own.held as u64),
        transfers: found.transfers,
        receipts: found.signed,
        bytes: found.bytes,
        remarks: found.remarks.len() as u64,
        differences: found.differences.len() as u64,
    });
    out.report(&text::reconciled(report));
    if found.differences.is_empty() { Exit::Done } else { Exit::Failed }
}
